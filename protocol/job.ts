// Owns what a job is: its fields, its id, its hash, and the ids of the requests that it pays for.
import { type Address, concatBytes, fromHex, type Hex, keccak256, utf8, ZERO_WORD } from "./bytes.ts";
import { type Domain, type StructType, typedDataDigest } from "./typed-data.ts";

/** One escrowed agreement. `deadline` is in Unix seconds of block time. */
export type Job = {
  requester: Address;
  signer: Address;
  node: Address;
  payee: Address;
  jobHash: Hex;
  deadline: number;
};

export const JOB_TYPE: StructType = {
  name: "Job",
  fields: [
    ["requester", "address"],
    ["signer", "address"],
    ["node", "address"],
    ["payee", "address"],
    ["jobHash", "bytes32"],
    ["deadline", "uint40"],
  ],
};

/** What a job hash hides until the requester shows it to the node. */
export type JobTerms = { salt: Hex; offerHash: Hex; requestHash: Hex };

/** What the chain says of a job; amounts in USDC base units. */
export type JobState = { deposit: bigint; claimed: bigint; status: "none" | "open" | "closed" };

/** The job's id: the full EIP-712 digest of the job. */
export function jobIdOf(domain: Domain, job: Job): Hex {
  return typedDataDigest(domain, JOB_TYPE, job);
}

/** keccak256(abi.encode(salt, offerHash, requestHash)). */
export function jobHashOf(terms: JobTerms): Hex {
  return keccak256(concatBytes(fromHex(terms.salt), fromHex(terms.offerHash), fromHex(terms.requestHash)));
}

/** The request hash of a session, which pays for any request. */
export const SESSION_REQUEST_HASH = ZERO_WORD;

/** keccak256("POST <path>\n" || body octets). */
export function requestHashOf(path: string, body: Uint8Array): Hex {
  return keccak256(concatBytes(utf8(`POST ${path}\n`), body));
}

/** A single job's request id: keccak256(jobId || requestHash). */
export function singleRequestId(jobId: Hex, requestHash: Hex): Hex {
  return keccak256(concatBytes(fromHex(jobId), fromHex(requestHash)));
}

/** A session request's id: keccak256(jobId || keccak256(Idempotency-Key)). */
export function sessionRequestId(jobId: Hex, idempotencyKey: string): Hex {
  return keccak256(concatBytes(fromHex(jobId), fromHex(keccak256(utf8(idempotencyKey)))));
}
