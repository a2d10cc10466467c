// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {Escrow} from "../../../contracts/Escrow.sol";
import {IEscrow} from "../../../contracts/interfaces/IEscrow.sol";
import {check, VM} from "./Vm.sol";

/// @notice What the token under test must offer beside ERC-20.
interface ITestToken {
    function mint(address to, uint256 value) external;
    function approve(address spender, uint256 value) external returns (bool);
    function transfer(address to, uint256 value) external returns (bool);
    function balanceOf(address account) external view returns (uint256);
    function DOMAIN_SEPARATOR() external view returns (bytes32);
    function RECEIVE_WITH_AUTHORIZATION_TYPEHASH() external view returns (bytes32);
}

/// @title EscrowModel
/// @notice The second book: what the Escrow must hold after every call, kept without looking at the Escrow.
abstract contract EscrowModel {
    struct Entry {
        IEscrow.Job job;
        bytes32 id;
        uint256 signerKey;
        uint96 deposit;
        uint96 claimed;
        uint96 returned;
        uint96 highestSigned;
        bool closed;
    }

    struct Signed {
        uint96 amount;
        bytes32 r;
        bytes32 vs;
    }

    uint256 internal constant ACTORS = 3;
    address internal constant STRANGER = address(0xBAD);

    Escrow public immutable escrow;
    ITestToken public immutable token;

    Entry[] internal entries;
    mapping(bytes32 id => Signed[]) internal receipts;
    mapping(address owner => uint256) internal credits;
    mapping(address payee => uint256) internal earnings;
    address[] internal owners;
    mapping(string action => uint256) internal calls;
    string[] internal actions;
    uint256 public donated;

    constructor(ITestToken token_) {
        token = token_;
        escrow = new Escrow(address(token_));
        VM.warp(1_800_000_000);
        for (uint256 i; i < ACTORS; ++i) {
            owners.push(requester(i));
        }
    }

    function requesterKey(uint256 seed) internal pure returns (uint256) {
        return 0x1000 + (seed % ACTORS);
    }

    function requester(uint256 seed) internal pure returns (address) {
        return VM.addr(requesterKey(seed));
    }

    function payee(uint256 seed) internal pure returns (address) {
        return address(uint160(0xA000 + (seed % ACTORS)));
    }

    function node(uint256 seed) internal pure returns (address) {
        return address(uint160(0xB000 + (seed % ACTORS)));
    }

    function sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function signCompact(uint256 key, bytes32 digest) internal pure returns (bytes32 r, bytes32 vs) {
        uint8 v;
        bytes32 s;
        (v, r, s) = VM.sign(key, digest);
        vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
    }

    /// @notice An EIP-3009 ReceiveWithAuthorization of `from` to the Escrow.
    function signAuthorization(address from, uint256 key, uint256 amount, uint256 validBefore, bytes32 nonce)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typehash = token.RECEIVE_WITH_AUTHORIZATION_TYPEHASH();
        bytes32 hash = keccak256(abi.encode(typehash, from, address(escrow), amount, 0, validBefore, nonce));
        return sign(key, keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), hash)));
    }

    function count(string memory action) internal {
        if (++calls[action] == 1) actions.push(action);
    }

    /// @notice How often each action was done, as "action=times" with spaces between.
    function reach() external view returns (string memory line) {
        for (uint256 i; i < actions.length; ++i) {
            line = string.concat(line, actions[i], "=", VM.toString(calls[actions[i]]), " ");
        }
    }

    function callAs(address caller, bytes memory data) internal returns (bool ok) {
        VM.prank(caller);
        (ok,) = address(escrow).call(data);
    }

    function addEntry(IEscrow.Job memory job, uint256 signerKey, uint96 amount) internal {
        entries.push(Entry(job, escrow.jobId(job), signerKey, amount, 0, 0, 0, false));
    }

    /// @notice The model's claim or settlement, applied when `canCapture` allows it.
    function capture(Entry storage entry, uint96 amount, bool closing) internal {
        uint96 claimed = amount < entry.deposit ? amount : entry.deposit;
        if (claimed < entry.claimed) claimed = entry.claimed;
        earnings[entry.job.payee] += claimed - entry.claimed;
        entry.claimed = claimed;
        if (closing) close(entry);
    }

    function close(Entry storage entry) internal {
        entry.closed = true;
        entry.returned = entry.deposit - entry.claimed;
        credits[entry.job.requester] += entry.returned;
    }

    // ------------------------------------------------------------------------------------ both books compared

    /// @notice Invariants 1, 3, 4, 5, 7, 8 and 14: every job, credit and earning is what the model says.
    function checkBooks() external view {
        for (uint256 i; i < entries.length; ++i) {
            Entry storage entry = entries[i];
            IEscrow.State memory state = escrow.stateOf(entry.id);
            check(state.claimed <= state.deposit, "1: claimed <= deposit");
            check(state.deposit == entry.deposit, "7: a job opens once, with its deposit");
            uint256 held = entry.closed ? 0 : state.deposit - state.claimed;
            check(entry.deposit == state.claimed + entry.returned + held, "3: in = earned + returned + held");
            check(state.claimed <= entry.highestSigned, "4: claimed <= highest amount signed");
            check(state.claimed == entry.claimed, "5, 8: claimed moves only as receipts say");
            check(state.status == (entry.closed ? 2 : 1), "7: a closed job stays closed");
        }
        for (uint256 i; i < owners.length; ++i) {
            check(escrow.credit(owners[i]) == credits[owners[i]], "14: credit moves by its owner alone");
        }
        for (uint256 i; i < ACTORS; ++i) {
            check(escrow.earned(payee(i)) == earnings[payee(i)], "earned is what was claimed and not paid out");
        }
        check(escrow.credit(STRANGER) == 0 && escrow.earned(STRANGER) == 0, "9: a stranger gains nothing");
    }

    /// @notice Invariant 2, exact while the token keeps its word: what is owed and donated is the balance.
    function checkSolvency(bool exact) external view {
        uint256 owed;
        for (uint256 i; i < entries.length; ++i) {
            if (!entries[i].closed) owed += entries[i].deposit - entries[i].claimed;
        }
        for (uint256 i; i < owners.length; ++i) {
            owed += escrow.credit(owners[i]);
        }
        for (uint256 i; i < ACTORS; ++i) {
            owed += escrow.earned(payee(i));
        }
        uint256 balance = token.balanceOf(address(escrow));
        check(balance >= owed, "2: the balance covers what is owed");
        if (exact) check(balance == owed + donated, "2: the balance is what is owed, and donations");
    }
}
