// The EIP-712 types of the Escrow and of USDC as a wallet sees them, written apart from the code under test.
import type { Signer, TypedDataDomain, TypedDataField } from "ethers";

function fields(list: string): TypedDataField[] {
  return list.split(",").map((field) => {
    const [type, name] = field.split(" ");
    return { type: type!, name: name! };
  });
}

const Job = fields(
  "address requester,address signer,address node,address payee,bytes32 jobHash,uint40 deadline",
);

/** Types of what is signed for an Escrow, by primary type. */
export const escrowTypes = {
  Job: { Job },
  Receipt: { Receipt: fields("bytes32 jobId,uint96 amount,bytes32 transcript") },
  Open: { Open: fields("Job job,uint96 amount,uint40 validBefore"), Job },
  Deposit: { Deposit: fields("address owner,bytes32 salt") },
  Withdraw: {
    Withdraw: fields("address owner,address to,uint96 amount,uint96 fee,bytes32 nonce,uint40 validBefore"),
  },
};

const authorization = fields(
  "address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce",
);

/** Types of what is signed for USDC, by primary type. */
export const usdcTypes = {
  TransferWithAuthorization: { TransferWithAuthorization: authorization },
  ReceiveWithAuthorization: { ReceiveWithAuthorization: authorization },
  CancelAuthorization: { CancelAuthorization: fields("address authorizer,bytes32 nonce") },
  Permit: {
    Permit: fields("address owner,address spender,uint256 value,uint256 nonce,uint256 deadline"),
  },
};

/** The domain of the Escrow at `address` on chain `chainId`. */
export function escrowDomain(address: string, chainId: bigint): TypedDataDomain {
  return { name: "Infernet Escrow", version: "1", chainId, verifyingContract: address };
}

/** The domain of the TestUSDC at `address` on chain `chainId`. */
export function usdcDomain(address: string, chainId: bigint): TypedDataDomain {
  return { name: "USD Coin", version: "2", chainId, verifyingContract: address };
}

/** The EIP-3009 fields that a requester chooses; `validAfter` 0 unless told otherwise. */
export interface Authorization {
  from: string;
  to: string;
  value: bigint;
  validAfter?: number;
  validBefore: number;
  nonce: string;
}

/** Signs an EIP-3009 ReceiveWithAuthorization as `signer`. */
export function signAuthorization(signer: Signer, domain: TypedDataDomain, message: Authorization) {
  return signer.signTypedData(domain, usdcTypes.ReceiveWithAuthorization, { validAfter: 0, ...message });
}
