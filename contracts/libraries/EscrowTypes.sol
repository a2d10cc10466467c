// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {IEscrow} from "../interfaces/IEscrow.sol";

/// @title EscrowTypes
/// @notice The EIP-712 struct hashes of everything that is signed for an Escrow.
library EscrowTypes {
    bytes32 private constant JOB_TYPEHASH = keccak256(
        "Job(address requester,address signer,address node,address payee,bytes32 jobHash,uint40 deadline)"
    );
    bytes32 private constant RECEIPT_TYPEHASH = keccak256("Receipt(bytes32 jobId,uint96 amount,bytes32 transcript)");
    bytes32 private constant OPEN_TYPEHASH = keccak256(
        "Open(Job job,uint96 amount,uint40 validBefore)Job(address requester,address signer,address node,address payee,bytes32 jobHash,uint40 deadline)"
    );
    bytes32 private constant DEPOSIT_TYPEHASH = keccak256("Deposit(address owner,bytes32 salt)");
    bytes32 private constant WITHDRAW_TYPEHASH = keccak256(
        "Withdraw(address owner,address to,uint96 amount,uint96 fee,bytes32 nonce,uint40 validBefore)"
    );

    /// @dev A Job has six static fields, so its calldata is its EIP-712 encoding. Unclean upper bits make another
    /// hash, and `open` refuses them: such a job never exists.
    function hashJob(IEscrow.Job calldata job) internal pure returns (bytes32 hash) {
        bytes32 typehash = JOB_TYPEHASH;
        assembly ("memory-safe") {
            let encoded := mload(0x40)
            mstore(encoded, typehash)
            calldatacopy(add(encoded, 0x20), job, 0xc0)
            hash := keccak256(encoded, 0xe0)
        }
    }

    function hashReceipt(bytes32 jobId, uint96 amount, bytes32 transcript) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPEHASH, jobId, amount, transcript));
    }

    function hashOpen(IEscrow.Job calldata job, uint96 amount, uint40 validBefore) internal pure returns (bytes32) {
        return keccak256(abi.encode(OPEN_TYPEHASH, hashJob(job), amount, validBefore));
    }

    function hashDeposit(address owner, bytes32 salt) internal pure returns (bytes32) {
        return keccak256(abi.encode(DEPOSIT_TYPEHASH, owner, salt));
    }

    function hashWithdraw(
        address owner,
        address to,
        uint96 amount,
        uint96 fee,
        bytes32 nonce,
        uint40 validBefore
    ) internal pure returns (bytes32) {
        return keccak256(abi.encode(WITHDRAW_TYPEHASH, owner, to, amount, fee, nonce, validBefore));
    }
}
