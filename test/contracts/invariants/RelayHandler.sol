// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {Escrow} from "../../../contracts/Escrow.sol";
import {IEscrow} from "../../../contracts/interfaces/IEscrow.sol";
import {EscrowHandler} from "./EscrowHandler.sol";
import {ITestToken} from "./EscrowModel.sol";
import {FickleWallet} from "./FickleWallet.sol";
import {check, VM, within} from "./Vm.sol";

/// @title RelayHandler
/// @notice Adds a pool of signed messages that anybody delivers, late, in any order and again, and a smart wallet
/// that changes its mind between signing, delivery and claim.
contract RelayHandler is EscrowHandler {
    enum Kind {
        Deposit,
        OpenFromWallet,
        OpenFromCredit,
        Withdraw
    }

    struct Message {
        Kind kind;
        address owner;
        uint96 amount;
        uint96 fee;
        uint40 validBefore;
        bool used;
        uint256 signerKey;
        IEscrow.Job job;
        bytes data;
    }

    uint256 internal constant WALLET_KEY = 0x3000;
    /// @dev Not the stranger: who earns fees has tokens, and whoever has tokens can lose them to a hostile token.
    address internal constant COURIER = address(0xC0);
    FickleWallet internal immutable wallet = new FickleWallet(VM.addr(WALLET_KEY));
    Message[] internal messages;

    constructor(ITestToken token_, bool tokenIsHonest_) EscrowHandler(token_, tokenIsHonest_) {
        owners.push(address(wallet));
    }

    function turnWallet(bool willing) external {
        wallet.setWilling(willing);
        count(willing ? "walletWilling" : "walletUnwilling");
    }

    /// @notice An owner signs something and lets go of it.
    function signMessage(uint256 who, uint8 kind, uint256 amount, uint256 fee, uint256 seed, uint256 life) external {
        Message storage message = messages.push();
        message.kind = Kind(kind % 4);
        message.owner = owners[who % owners.length];
        message.amount = uint96(within(amount, 1, 1e12));
        message.fee = uint96(within(fee, 0, 1e6));
        message.validBefore = uint40(block.timestamp + within(life, 1, 10 days));
        bytes32 unique = keccak256(abi.encode("message", messages.length));
        (message.job, message.signerKey) = newJob(message.owner, seed, life);
        message.job.jobHash = unique;
        uint256 key = message.owner == address(wallet) ? WALLET_KEY : requesterKey(who % owners.length);
        if (message.kind == Kind.Deposit || message.kind == Kind.OpenFromWallet) {
            token.mint(message.owner, message.amount);
        }
        message.data = encode(message, key, unique);
        count("signMessage");
    }

    /// @notice Anybody delivers any message at any time, as often as it likes.
    function deliver(uint256 index, uint256 by) external {
        if (messages.length == 0) return;
        Message storage message = messages[index % messages.length];
        address caller = by % 3 == 0 ? COURIER : by % 3 == 1 ? message.owner : message.job.node;
        bool fresh = !message.used;
        bool valid = fresh && isValid(message);
        bool ok = callAs(caller, message.data);
        if (tokenIsHonest || message.kind == Kind.OpenFromCredit) {
            check(ok == valid, "12: a signed message works once, in its time, whoever brings it");
        } else {
            // A hostile token takes any signature of an authorisation, and may stop a withdrawal.
            check(!ok || (message.kind == Kind.Withdraw ? valid : fresh), "12: nothing is used twice");
        }
        count(ok ? "delivered" : fresh ? "deliveredInvalid" : "deliveredAgain");
        if (ok) settleMessage(message);
    }

    function isValid(Message storage message) internal view returns (bool) {
        if (block.timestamp >= message.validBefore) return false;
        if (message.owner == address(wallet) && !wallet.willing()) return false;
        if (message.kind == Kind.Deposit) return true;
        if (message.kind == Kind.Withdraw) return credits[message.owner] >= uint256(message.amount) + message.fee;
        if (message.kind == Kind.OpenFromCredit && credits[message.owner] < message.amount) return false;
        return block.timestamp < message.job.deadline;
    }

    /// @dev The second book's side of a delivered message.
    function settleMessage(Message storage message) internal {
        message.used = true;
        if (message.kind == Kind.Deposit) credits[message.owner] += message.amount;
        if (message.kind == Kind.Withdraw) credits[message.owner] -= uint256(message.amount) + message.fee;
        if (message.kind == Kind.OpenFromCredit) credits[message.owner] -= message.amount;
        if (message.kind == Kind.OpenFromCredit || message.kind == Kind.OpenFromWallet) {
            addEntry(message.job, message.signerKey, message.amount);
        }
    }

    function encode(Message memory m, uint256 key, bytes32 unique) internal view returns (bytes memory) {
        if (m.kind == Kind.Withdraw) {
            bytes32 digest = escrow.withdrawDigest(m.owner, m.owner, m.amount, m.fee, unique, m.validBefore);
            return abi.encodeCall(
                Escrow.withdrawWithSignature,
                (m.owner, m.owner, m.amount, m.fee, unique, m.validBefore, sign(key, digest))
            );
        }
        if (m.kind == Kind.OpenFromCredit) {
            bytes32 digest = escrow.openDigest(m.job, m.amount, m.validBefore);
            return abi.encodeCall(Escrow.openWithSignature, (m.job, m.amount, m.validBefore, sign(key, digest)));
        }
        bytes32 purpose = m.kind == Kind.Deposit ? escrow.depositDigest(m.owner, unique) : escrow.jobId(m.job);
        bytes memory signature = signAuthorization(m.owner, key, m.amount, m.validBefore, purpose);
        return m.kind == Kind.Deposit
            ? abi.encodeCall(
                Escrow.depositWithAuthorization, (m.owner, m.amount, unique, 0, m.validBefore, signature)
            )
            : abi.encodeCall(Escrow.openWithAuthorization, (m.job, m.amount, 0, m.validBefore, signature));
    }
}
