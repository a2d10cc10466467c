// Owns the receipt: the requester's signed word "up to this cumulative amount", its digest and its header form.
import { type Hex, isHex } from "./bytes.ts";
import { InfernetError } from "./errors.ts";
import { type Domain, type StructType, typedDataDigest } from "./typed-data.ts";

/** `amount` in USDC base units, cumulative over the job; `signature` is r || vs, 64 bytes (EIP-2098). */
export type Receipt = { jobId: Hex; amount: bigint; transcript: Hex; signature: Hex };

export const RECEIPT_TYPE: StructType = {
  name: "Receipt",
  fields: [
    ["jobId", "bytes32"],
    ["amount", "uint96"],
    ["transcript", "bytes32"],
  ],
};

const HEADER_PATTERN = /^(0|[1-9]\d{0,28});(0x[0-9a-f]{64});(0x[0-9a-f]{128})$/;
const MAX_UINT96 = (1n << 96n) - 1n;

/** What the job's signer signs. */
export function receiptDigest(domain: Domain, receipt: Omit<Receipt, "signature">): Hex {
  const { jobId, amount, transcript } = receipt;
  return typedDataDigest(domain, RECEIPT_TYPE, { jobId, amount, transcript });
}

/** The value of `Infernet-Receipt`: `<decimal amount>;0x<64 transcript>;0x<128 r||vs>`. */
export function formatReceipt(receipt: Receipt): string {
  return `${receipt.amount};${receipt.transcript};${receipt.signature}`;
}

/** The receipt in a header's value. Throws `bad-receipt`; does not look at the signature. */
export function parseReceipt(jobId: Hex, header: string): Receipt {
  const match = HEADER_PATTERN.exec(header);
  const amount = match ? BigInt(match[1]!) : -1n;
  if (!match || amount > MAX_UINT96 || !isHex(match[2], 32) || !isHex(match[3], 64)) {
    throw new InfernetError("bad-receipt", "the receipt is malformed", {
      hint: "Send Infernet-Receipt as <decimal amount>;0x<64 hex transcript>;0x<128 hex r||vs>, lower case.",
    });
  }
  return { jobId, amount, transcript: match[2], signature: match[3] };
}
