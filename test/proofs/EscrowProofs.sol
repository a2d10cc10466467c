// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {Escrow} from "../../contracts/Escrow.sol";
import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

interface Vm {
    function assume(bool condition) external pure;
    function prank(address caller) external;
    function warp(uint256 timestamp) external;
}

interface Svm {
    function enableSymbolicStorage(address account) external;
    function createBytes(uint256 length, string calldata name) external returns (bytes memory);
}

/// @dev Enough of a token to deposit to and withdraw from: it keeps its word.
contract PlainToken {
    mapping(address account => uint256) public balanceOf;

    function transfer(address to, uint256 value) external returns (bool) {
        return transferFrom(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) public returns (bool) {
        balanceOf[from] -= value;
        balanceOf[to] += value;
        return true;
    }

    function receiveWithAuthorization(address from, address to, uint256 value, uint256, uint256, bytes32, bytes calldata)
        external
    {
        transferFrom(from, to, value);
    }
}

/// @title EscrowProofs
/// @notice Steps of induction that Halmos proves: from any storage at all in which `claimed <= deposit`, one call with
/// any arguments by anybody at any time keeps the invariants marked P. The bound on sums is far above all USDC.
contract EscrowProofs {
    Vm internal constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    Svm internal constant SVM = Svm(address(uint160(uint256(keccak256("svm cheat code")))));
    uint256 internal constant ALL_MONEY = 1 << 128;

    PlainToken internal token;
    Escrow internal escrow;

    /// @dev What one job's call may touch, and one job and two accounts that it may not.
    struct Book {
        IEscrow.State job;
        IEscrow.State other;
        uint256 credit;
        uint256 earned;
        uint256 otherCredit;
        uint256 otherEarned;
    }

    struct Bystanders {
        bytes32 job;
        address owner;
        address payee;
    }

    function setUp() public {
        token = new PlainToken();
        escrow = new Escrow(address(token));
        SVM.enableSymbolicStorage(address(escrow));
        SVM.enableSymbolicStorage(address(token));
    }

    // ---------------------------------------------------------------------------- claim and settle: 1 to 5, 8, 9

    function check_claim(
        IEscrow.Job calldata job,
        IEscrow.Receipt calldata receipt,
        uint96 amount,
        address caller,
        Bystanders calldata others
    ) external {
        Book memory before = start(job, others);
        VM.prank(caller);
        (bool ok,) = address(escrow).call(abi.encodeCall(Escrow.claim, (job, receipt, amount)));
        VM.assume(ok);
        assertCapture(job, receipt, amount, caller, before, read(job, others), false);
    }

    function check_settle(
        IEscrow.Job calldata job,
        IEscrow.Receipt calldata receipt,
        uint96 amount,
        address caller,
        Bystanders calldata others
    ) external {
        Book memory before = start(job, others);
        VM.prank(caller);
        (bool ok,) = address(escrow).call(abi.encodeCall(Escrow.settle, (job, receipt, amount)));
        VM.assume(ok);
        assertCapture(job, receipt, amount, caller, before, read(job, others), true);
    }

    function assertCapture(
        IEscrow.Job calldata job,
        IEscrow.Receipt calldata receipt,
        uint96 amount,
        address caller,
        Book memory before,
        Book memory afterwards,
        bool closing
    ) internal view {
        assert(caller == job.node || caller == job.payee); // 9
        assert(before.job.status == 1 && afterwards.job.status == (closing ? 2 : 1)); // 7
        assert(amount <= receipt.amount); // 4
        bytes32 digest = escrow.receiptDigest(escrow.jobId(job), receipt.amount, receipt.transcript);
        (address signer,,) = ECDSA.tryRecover(digest, receipt.r, receipt.vs);
        assert(signer == job.signer); // 8
        assert(afterwards.job.deposit == before.job.deposit);
        assert(afterwards.job.claimed <= afterwards.job.deposit); // 1
        assert(afterwards.job.claimed >= before.job.claimed); // 5
        assert(afterwards.job.claimed <= amount || afterwards.job.claimed == before.job.claimed); // 4
        assert(afterwards.earned - before.earned == afterwards.job.claimed - before.job.claimed); // 2, 3
        uint256 returned = closing ? afterwards.job.deposit - afterwards.job.claimed : 0;
        assert(afterwards.credit - before.credit == returned); // 2, 3
        assertBystanders(before, afterwards);
    }

    // -------------------------------------------------------------------------------------- refund: 2, 3, 5, 6, 7

    function check_refund(IEscrow.Job calldata job, address caller, uint40 time, Bystanders calldata others) external {
        VM.warp(time);
        Book memory before = start(job, others);
        VM.prank(caller);
        (bool ok,) = address(escrow).call(abi.encodeCall(Escrow.refund, (job)));
        VM.assume(ok);
        Book memory afterwards = read(job, others);
        assert(time >= job.deadline || caller == job.node || caller == job.payee); // 6
        assert(before.job.status == 1 && afterwards.job.status == 2); // 7
        assert(afterwards.job.deposit == before.job.deposit && afterwards.job.claimed == before.job.claimed); // 5
        assert(afterwards.earned == before.earned); // 3
        assert(afterwards.credit - before.credit == before.job.deposit - before.job.claimed); // 2, 3
        assertBystanders(before, afterwards);
    }

    // --------------------------------------------------------------------------------------------- open: 2, 7, 14

    function check_open(
        IEscrow.Job calldata job,
        uint96 amount,
        address caller,
        uint40 time,
        Bystanders calldata others
    ) external {
        VM.warp(time);
        Book memory before = start(job, others);
        VM.prank(caller);
        (bool ok,) = address(escrow).call(abi.encodeCall(Escrow.open, (job, amount)));
        VM.assume(ok);
        Book memory afterwards = read(job, others);
        assert(caller == job.requester); // 14
        assert(job.deadline > time && job.deadline <= uint256(time) + 30 days);
        assert(before.credit - afterwards.credit == amount && afterwards.earned == before.earned); // 2
        assertOpened(before, afterwards, amount);
    }

    function check_openWithAuthorization(
        IEscrow.Job calldata job,
        uint96 amount,
        address caller,
        uint40 time,
        Bystanders calldata others
    ) external {
        VM.warp(time);
        Book memory before = start(job, others);
        uint256 balance = token.balanceOf(address(escrow));
        VM.assume(balance < ALL_MONEY && job.requester != address(escrow));
        VM.prank(caller);
        (bool ok,) =
            address(escrow).call(abi.encodeCall(Escrow.openWithAuthorization, (job, amount, 0, time, hex"")));
        VM.assume(ok);
        Book memory afterwards = read(job, others);
        assert(token.balanceOf(address(escrow)) == balance + amount); // 2
        assert(afterwards.credit == before.credit && afterwards.earned == before.earned); // 2
        assertOpened(before, afterwards, amount);
    }

    /// @dev The requester is a key here: what a smart wallet's code says is up to its code.
    function check_openWithSignature(
        IEscrow.Job calldata job,
        uint96 amount,
        uint40 validBefore,
        address caller,
        uint40 time,
        Bystanders calldata others
    ) external {
        VM.warp(time);
        VM.assume(job.requester.code.length == 0);
        bytes memory signature = SVM.createBytes(65, "signature");
        Book memory before = start(job, others);
        VM.prank(caller);
        (bool ok,) = address(escrow)
            .call(abi.encodeCall(Escrow.openWithSignature, (job, amount, validBefore, signature)));
        VM.assume(ok);
        Book memory afterwards = read(job, others);
        (address signer,,) = ECDSA.tryRecover(escrow.openDigest(job, amount, validBefore), signature);
        assert(signer == job.requester && time < validBefore); // 14
        assert(before.credit - afterwards.credit == amount && afterwards.earned == before.earned); // 2
        assertOpened(before, afterwards, amount);
    }

    function assertOpened(Book memory before, Book memory afterwards, uint96 amount) internal pure {
        assert(before.job.status == 0 && afterwards.job.status == 1); // 7
        assert(afterwards.job.deposit == amount && afterwards.job.claimed == 0); // 1, 3
        assertBystanders(before, afterwards);
    }

    // ---------------------------------------------------------------------------- money in and out: 2 and 14

    function check_deposit(uint96 amount, address caller, address other) external {
        VM.assume(caller != address(escrow) && other != caller);
        uint256 credit = escrow.credit(caller);
        uint256 otherCredit = escrow.credit(other);
        uint256 balance = token.balanceOf(address(escrow));
        VM.assume(credit < ALL_MONEY && balance < ALL_MONEY);
        VM.prank(caller);
        (bool ok,) = address(escrow).call(abi.encodeCall(Escrow.deposit, (amount)));
        VM.assume(ok);
        assert(escrow.credit(caller) == credit + amount && escrow.credit(other) == otherCredit);
        assert(token.balanceOf(address(escrow)) == balance + amount);
    }

    function check_withdraw(address to, uint96 amount, address caller, address other) external {
        VM.assume(other != caller);
        uint256 credit = escrow.credit(caller);
        uint256 otherCredit = escrow.credit(other);
        uint256 balance = token.balanceOf(address(escrow));
        VM.prank(caller);
        (bool ok,) = address(escrow).call(abi.encodeCall(Escrow.withdraw, (to, amount)));
        VM.assume(ok);
        assert(escrow.credit(caller) == credit - amount && escrow.credit(other) == otherCredit);
        assert(token.balanceOf(address(escrow)) == balance - amount);
    }

    function check_payOut(address payee, address caller, address other) external {
        VM.assume(payee != address(escrow) && other != payee);
        uint256 earned = escrow.earned(payee);
        uint256 otherEarned = escrow.earned(other);
        uint256 balance = token.balanceOf(address(escrow));
        VM.prank(caller);
        (bool ok,) = address(escrow).call(abi.encodeCall(Escrow.payOut, (payee)));
        VM.assume(ok);
        assert(escrow.earned(payee) == 0 && escrow.earned(other) == otherEarned);
        assert(token.balanceOf(address(escrow)) == balance - earned);
    }

    // -------------------------------------------------------------------------------------------------- inside

    function read(IEscrow.Job calldata job, Bystanders calldata others) internal view returns (Book memory book) {
        bytes32 id = escrow.jobId(job);
        book.job = escrow.stateOf(id);
        book.other = escrow.stateOf(others.job);
        book.credit = escrow.credit(job.requester);
        book.earned = escrow.earned(job.payee);
        book.otherCredit = escrow.credit(others.owner);
        book.otherEarned = escrow.earned(others.payee);
    }

    /// @dev Where the induction starts: afterwards nothing is assumed.
    function start(IEscrow.Job calldata job, Bystanders calldata others) internal view returns (Book memory book) {
        book = read(job, others);
        VM.assume(others.job != escrow.jobId(job) && others.owner != job.requester && others.payee != job.payee);
        VM.assume(book.job.claimed <= book.job.deposit && book.credit < ALL_MONEY && book.earned < ALL_MONEY);
    }

    function assertBystanders(Book memory before, Book memory afterwards) internal pure {
        assert(afterwards.other.deposit == before.other.deposit);
        assert(afterwards.other.claimed == before.other.claimed);
        assert(afterwards.other.status == before.other.status);
        assert(afterwards.otherCredit == before.otherCredit);
        assert(afterwards.otherEarned == before.otherEarned);
    }
}
