// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {Escrow} from "../../../contracts/Escrow.sol";
import {IEscrow} from "../../../contracts/interfaces/IEscrow.sol";
import {TestUSDC} from "../../../contracts/mocks/TestUSDC.sol";
import {check, VM, within} from "./Vm.sol";

/// @notice Invariants 10 and 13: a batch does to each job what the job's own call would have done, in any order.
contract EscrowBatchTest {
    uint256 internal constant JOBS = 6;
    uint256 internal constant SIGNER_KEY = 0x51;
    address internal constant NODE = address(0xB0);

    TestUSDC internal token;
    Escrow internal batched;
    Escrow internal single;
    uint256 internal rounds;

    function setUp() public {
        VM.warp(1_800_000_000);
        token = new TestUSDC();
        batched = new Escrow(address(token));
        single = new Escrow(address(token));
    }

    function testFuzz_batchEqualsItsItemsInAnyOrder(
        uint96[JOBS] calldata deposits,
        uint96[JOBS] calldata amounts,
        uint8[JOBS] calldata faults,
        uint256 order,
        bool closing
    ) external {
        ++rounds;
        IEscrow.Item[] memory items = new IEscrow.Item[](JOBS);
        for (uint256 i; i < JOBS; ++i) {
            items[i] = openBoth(i, within(deposits[i], 1, 1e12), amounts[i], faults[i]);
        }
        IEscrow.Item[] memory shuffled = new IEscrow.Item[](JOBS);
        for (uint256 i; i < JOBS; ++i) {
            shuffled[i] = items[i];
        }
        for (uint256 i = JOBS - 1; i > 0; --i) {
            uint256 j = (order >> (8 * i)) % (i + 1);
            (shuffled[i], shuffled[j]) = (shuffled[j], shuffled[i]);
        }

        VM.prank(NODE);
        if (closing) batched.settleBatch(shuffled);
        else batched.claimBatch(shuffled);
        for (uint256 i; i < JOBS; ++i) {
            resign(items[i], faults[i]);
            VM.prank(NODE);
            (bool ok,) = address(single).call(
                closing
                    ? abi.encodeCall(Escrow.settle, (items[i].job, items[i].receipt, items[i].amount))
                    : abi.encodeCall(Escrow.claim, (items[i].job, items[i].receipt, items[i].amount))
            );
            check(ok == (faults[i] % 4 == 0), "10: exactly the faulty items fail");
        }
        for (uint256 i; i < JOBS; ++i) {
            checkSame(items[i].job);
        }
    }

    function openBoth(uint256 i, uint256 amount, uint96 claimSeed, uint8 fault)
        internal
        returns (IEscrow.Item memory item)
    {
        address requester = address(uint160(0xC0 + (i % 2)));
        address payee = address(uint160(0xA0 + (i % 3)));
        item.job = IEscrow.Job(
            requester,
            VM.addr(SIGNER_KEY),
            NODE,
            payee,
            keccak256(abi.encode(rounds, i)),
            uint40(block.timestamp + 1 days)
        );
        item.receipt.amount = uint96(within(claimSeed, 0, amount * 2));
        item.amount = item.receipt.amount;
        open(single, item.job, amount);
        open(batched, item.job, amount);
        signFor(batched, item, fault);
    }

    function open(Escrow escrow, IEscrow.Job memory job, uint256 amount) internal {
        token.mint(job.requester, amount);
        VM.prank(job.requester);
        token.approve(address(escrow), amount);
        VM.prank(job.requester);
        escrow.deposit(uint96(amount));
        VM.prank(job.requester);
        escrow.open(job, uint96(amount));
    }

    function resign(IEscrow.Item memory item, uint8 fault) internal view {
        if (fault % 4 == 1) item.amount = item.receipt.amount;
        signFor(single, item, fault);
    }

    /// @dev Faults: 1 claims one more than was signed, 2 another key signed, 3 the job was never opened.
    function signFor(Escrow escrow, IEscrow.Item memory item, uint8 fault) internal view {
        uint256 key = fault % 4 == 2 ? SIGNER_KEY + 1 : SIGNER_KEY;
        if (fault % 4 == 3) item.job.jobHash = keccak256("never opened");
        bytes32 digest = escrow.receiptDigest(escrow.jobId(item.job), item.receipt.amount, bytes32(0));
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(key, digest);
        item.receipt.r = r;
        item.receipt.vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
        if (fault % 4 == 1) item.amount = item.receipt.amount + 1;
    }

    function checkSame(IEscrow.Job memory job) internal view {
        IEscrow.State memory one = batched.stateOf(batched.jobId(job));
        IEscrow.State memory two = single.stateOf(single.jobId(job));
        check(one.claimed == two.claimed && one.status == two.status, "13: a batch equals its items");
        check(one.deposit == two.deposit, "13: deposits too");
        check(batched.credit(job.requester) == single.credit(job.requester), "13: credits too");
        check(batched.earned(job.payee) == single.earned(job.payee), "13: earnings too");
    }
}
