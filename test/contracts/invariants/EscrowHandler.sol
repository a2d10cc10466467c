// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {Escrow} from "../../../contracts/Escrow.sol";
import {IEscrow} from "../../../contracts/interfaces/IEscrow.sol";
import {EscrowModel, ITestToken} from "./EscrowModel.sol";
import {check, VM, within} from "./Vm.sol";

/// @title EscrowHandler
/// @notice Everything that anybody can do to an Escrow, the right way and the wrong way, beside the model.
/// @dev `tokenIsHonest` says whether the calls that move tokens must succeed; the calls that do not, always must.
contract EscrowHandler is EscrowModel {
    bool internal immutable tokenIsHonest;

    constructor(ITestToken token_, bool tokenIsHonest_) EscrowModel(token_) {
        tokenIsHonest = tokenIsHonest_;
    }

    // ------------------------------------------------------------------------------------------------- credit

    function deposit(uint256 who, uint256 amount) external {
        amount = within(amount, 1, 1e12);
        address owner = requester(who);
        token.mint(owner, amount);
        VM.prank(owner);
        token.approve(address(escrow), amount);
        if (tokenCall(owner, abi.encodeCall(Escrow.deposit, (uint96(amount))), "deposit")) credits[owner] += amount;
    }

    function depositByRelayer(uint256 who, uint256 amount, bytes32 salt) external {
        amount = within(amount, 1, 1e12);
        address owner = requester(who);
        token.mint(owner, amount);
        bytes memory signature = authorize(who, amount, escrow.depositDigest(owner, salt));
        bytes memory data = abi.encodeCall(
            Escrow.depositWithAuthorization, (owner, uint96(amount), salt, 0, type(uint40).max, signature)
        );
        // 12: whoever brings it may name another owner or purpose; the token's signature then says no.
        bytes memory stolen = abi.encodeCall(
            Escrow.depositWithAuthorization, (STRANGER, uint96(amount), salt, 0, type(uint40).max, signature)
        );
        check(!callAs(STRANGER, stolen), "12: an authorisation ends where it was signed for");
        // Salts of the fuzzer repeat: a used nonce must fail, and change nothing.
        if (callAs(STRANGER, data)) {
            count("depositByRelayer");
            credits[owner] += amount;
            check(!callAs(STRANGER, data), "12: an authorisation is used once");
        }
    }

    function withdraw(uint256 who, uint256 amount) external {
        address owner = requester(who);
        check(!callAs(owner, abi.encodeCall(Escrow.withdraw, (owner, uint96(credits[owner] + 1)))), "14: overdraft");
        if (credits[owner] == 0) return;
        amount = within(amount, 1, credits[owner]);
        if (tokenCall(owner, abi.encodeCall(Escrow.withdraw, (address(0xE0), uint96(amount))), "withdraw")) {
            credits[owner] -= amount;
        }
    }

    function withdrawByRelayer(uint256 who, uint256 amount, uint256 fee, bytes32 nonce) external {
        address owner = requester(who);
        if (credits[owner] == 0 || escrow.usedNonces(owner, nonce)) return;
        amount = within(amount, 1, credits[owner]);
        fee = within(fee, 0, credits[owner] - amount);
        bytes32 digest =
            escrow.withdrawDigest(owner, owner, uint96(amount), uint96(fee), nonce, type(uint40).max);
        bytes memory signature = sign(requesterKey(who), digest);
        bytes memory stolen = withdrawal(owner, STRANGER, amount, fee, nonce, signature);
        check(!callAs(STRANGER, stolen), "14: a relayer cannot choose the recipient");
        bytes memory greedy = withdrawal(owner, owner, amount, fee + 1, nonce, signature);
        check(!callAs(STRANGER, greedy), "14: a relayer cannot raise its fee");
        bytes memory data = withdrawal(owner, owner, amount, fee, nonce, signature);
        if (tokenCall(address(0xFEE), data, "withdrawByRelayer")) {
            credits[owner] -= amount + fee;
            check(!callAs(address(0xFEE), data), "14: a withdrawal is used once");
        }
    }

    // ------------------------------------------------------------------------------------------------ opening

    function open(uint256 who, uint256 seed, uint256 amount, uint256 life) external {
        address owner = requester(who);
        if (credits[owner] == 0) return;
        amount = within(amount, 1, credits[owner]);
        (IEscrow.Job memory job, uint256 signerKey) = newJob(owner, seed, life);
        bytes memory data = abi.encodeCall(Escrow.open, (job, uint96(amount)));
        check(!callAs(STRANGER, data), "14: only the requester opens from its credit");
        mustCall(owner, data, "open");
        credits[owner] -= amount;
        addEntry(job, signerKey, uint96(amount));
        check(!callAs(owner, abi.encodeCall(Escrow.open, (job, 1))), "7: a job opens once");
    }

    function openBySignature(uint256 who, uint256 seed, uint256 amount, uint256 life) external {
        address owner = requester(who);
        if (credits[owner] == 0) return;
        amount = within(amount, 1, credits[owner]);
        (IEscrow.Job memory job, uint256 signerKey) = newJob(owner, seed, life);
        bytes memory signature =
            sign(requesterKey(who), escrow.openDigest(job, uint96(amount), type(uint40).max));
        bytes memory data =
            abi.encodeCall(Escrow.openWithSignature, (job, uint96(amount), type(uint40).max, signature));
        mustCall(STRANGER, data, "openBySignature");
        credits[owner] -= amount;
        addEntry(job, signerKey, uint96(amount));
        check(!callAs(STRANGER, data), "7: a signed opening is used once");
    }

    function openByAuthorization(uint256 who, uint256 seed, uint256 amount, uint256 life) external {
        amount = within(amount, 1, 1e12);
        address owner = requester(who);
        token.mint(owner, amount);
        (IEscrow.Job memory job, uint256 signerKey) = newJob(owner, seed, life);
        bytes memory signature = authorize(who, amount, escrow.jobId(job));
        if (tokenIsHonest) {
            address rightPayee = job.payee;
            job.payee = STRANGER;
            check(!callAs(STRANGER, authorized(job, amount, signature)), "12: no relayer swaps the job");
            job.payee = rightPayee;
        }
        if (tokenCall(STRANGER, authorized(job, amount, signature), "openByAuthorization")) {
            addEntry(job, signerKey, uint96(amount));
        }
    }

    // ---------------------------------------------------------------------------------------- the node's side

    /// @notice The signer signs up to any amount, above the deposit too.
    function signReceipt(uint256 seed, uint256 amount, bytes32) external {
        if (entries.length == 0) return;
        Entry storage entry = pick(seed, false);
        amount = within(amount, 0, uint256(entry.deposit) * 2);
        (bytes32 r, bytes32 vs) =
            signCompact(entry.signerKey, escrow.receiptDigest(entry.id, uint96(amount), bytes32(0)));
        receipts[entry.id].push(Signed(uint96(amount), r, vs));
        if (amount > entry.highestSigned) entry.highestSigned = uint96(amount);
        count(amount > entry.deposit ? "signReceiptAboveDeposit" : "signReceipt");
    }

    function claimOrSettle(uint256 seed, uint256 amount, bool closing, bool byPayee) external {
        if (entries.length == 0) return;
        Entry storage entry = pick(seed, true);
        IEscrow.Item memory item = itemOf(entry, amount, amount);
        address caller = byPayee ? entry.job.payee : entry.job.node;
        check(!callAs(STRANGER, captureCall(item, closing)), "9: strangers never claim or settle");
        check(!callAs(entry.job.requester, captureCall(item, closing)), "9: nor does the requester");
        bool ok = callAs(caller, captureCall(item, closing));
        check(ok == canCapture(entry, item), "4, 8: a valid receipt of an open job, and nothing else, is enough");
        if (!ok) {
            count(entry.closed ? "captureOfClosed" : "captureWithoutReceipt");
            return;
        }
        count(closing ? "settle" : item.amount > entry.claimed ? "claim" : "claimOfNoMore");
        capture(entry, item.amount, closing);
    }

    /// @notice A receipt by another key, of another job, or for less than what is claimed.
    function forge(uint256 seed, uint256 amount, bool closing) external {
        if (entries.length == 0) return;
        Entry storage entry = entries[seed % entries.length];
        amount = within(amount, 1, uint256(entry.deposit) * 2);
        (bytes32 r, bytes32 vs) =
            signCompact(entry.signerKey + 1, escrow.receiptDigest(entry.id, uint96(amount), bytes32(0)));
        IEscrow.Item memory item =
            IEscrow.Item(entry.job, IEscrow.Receipt(uint96(amount), bytes32(0), r, vs), uint96(amount));
        check(!callAs(entry.job.node, captureCall(item, closing)), "8: only the named signer's receipts earn");
        count("forgeByOtherKey");
        Entry storage other = entries[(seed % entries.length + 1) % entries.length];
        if (other.id == entry.id || receipts[other.id].length == 0) return;
        item = itemOf(other, 0, type(uint96).max);
        item.job = entry.job;
        check(!callAs(entry.job.node, captureCall(item, closing)), "8: a receipt pays for its own job");
        count("forgeByOtherJob");
    }

    /// @notice A batch of any items, bad, foreign and repeated ones among them, by the node of the first.
    function batch(uint256[5] calldata seeds, uint256[5] calldata amounts, bool closing) external {
        if (entries.length == 0) return;
        IEscrow.Item[] memory items = new IEscrow.Item[](5);
        uint256[5] memory picked;
        for (uint256 i; i < 5; ++i) {
            picked[i] = pickIndex(seeds[i], true);
            items[i] = itemOf(entries[picked[i]], amounts[i] >> 8, amounts[i]);
        }
        address caller = entries[picked[0]].job.node;
        mustCall(
            caller,
            closing ? abi.encodeCall(Escrow.settleBatch, (items)) : abi.encodeCall(Escrow.claimBatch, (items)),
            closing ? "settleBatch" : "claimBatch"
        );
        for (uint256 i; i < 5; ++i) {
            Entry storage entry = entries[picked[i]];
            bool isParty = caller == entry.job.node || caller == entry.job.payee;
            bool taken = isParty && canCapture(entry, items[i]);
            count(taken ? "batchItemTaken" : "batchItemSkipped");
            if (taken) capture(entry, items[i].amount, closing);
        }
    }

    // ------------------------------------------------------------------------------------------------ closing

    function refund(uint256 seed, bool byStranger) external {
        if (entries.length == 0) return;
        Entry storage entry = entries[seed % entries.length];
        address caller = byStranger ? STRANGER : entry.job.node;
        bool ok = callAs(caller, abi.encodeCall(Escrow.refund, (entry.job)));
        bool allowed = !entry.closed && (!byStranger || block.timestamp >= entry.job.deadline);
        check(ok == allowed, "6: no refund before the deadline but by node or payee");
        if (!ok) {
            count(entry.closed ? "refundOfClosed" : "refundTooEarly");
            return;
        }
        count(byStranger ? "refundByStranger" : "refundByNode");
        close(entry);
    }

    function payOut(uint256 who) external {
        address to = payee(who);
        for (uint256 i; i < ACTORS && earnings[to] == 0; ++i) {
            to = payee(who % ACTORS + i + 1);
        }
        if (earnings[to] == 0) return;
        uint256 before = token.balanceOf(to);
        if (!tokenCall(STRANGER, abi.encodeCall(Escrow.payOut, (to)), "payOut")) return;
        if (tokenIsHonest) check(token.balanceOf(to) == before + earnings[to], "earnings reach their payee");
        earnings[to] = 0;
    }

    // ------------------------------------------------------------------------------------------------ outside

    function donate(uint256 amount) external {
        amount = within(amount, 1, 1e9);
        token.mint(address(escrow), amount);
        donated += amount;
        count("donate");
    }

    function wait(uint256 secondsPassed) external {
        VM.warp(block.timestamp + within(secondsPassed, 1, 2 days));
    }

    // ------------------------------------------------------------------------------------------------- inside

    /// @dev Mostly the next open job (with a receipt, if `signed`) from a place that `seed` names: most are closed.
    function pickIndex(uint256 seed, bool signed) internal view returns (uint256 index) {
        uint256 length = entries.length;
        for (uint256 i; i < length; ++i) {
            index = (seed % length + i) % length;
            if (seed / length % 4 == 0) return index;
            if (!entries[index].closed && !(signed && receipts[entries[index].id].length == 0)) return index;
        }
    }

    function pick(uint256 seed, bool signed) internal view returns (Entry storage) {
        return entries[pickIndex(seed, signed)];
    }

    /// @dev A call that never touches the token: nothing that the token does may stop it.
    function mustCall(address caller, bytes memory data, string memory action) internal {
        check(callAs(caller, data), string.concat("11: must succeed: ", action));
        count(action);
    }

    function tokenCall(address caller, bytes memory data, string memory action) internal returns (bool ok) {
        ok = callAs(caller, data);
        check(ok || !tokenIsHonest, string.concat("must succeed on an honest token: ", action));
        if (ok) count(action);
    }

    function newJob(address owner, uint256 seed, uint256 life)
        internal
        view
        returns (IEscrow.Job memory job, uint256 signerKey)
    {
        signerKey = 0x2000 + 2 * (seed % 5);
        bytes32 jobHash = keccak256(abi.encode(entries.length, seed));
        uint40 deadline = uint40(block.timestamp + within(life, 1, 30 days));
        job = IEscrow.Job(owner, VM.addr(signerKey), node(seed >> 8), payee(seed >> 16), jobHash, deadline);
    }

    /// @dev One of the job's receipts and an amount near it: mostly valid, sometimes one above.
    function itemOf(Entry storage entry, uint256 receiptSeed, uint256 amountSeed)
        internal
        view
        returns (IEscrow.Item memory)
    {
        Signed[] storage signed = receipts[entry.id];
        if (signed.length == 0) return IEscrow.Item(entry.job, IEscrow.Receipt(0, 0, 0, 0), 0);
        Signed storage one = signed[receiptSeed % signed.length];
        uint96 amount = uint96(within(amountSeed, 0, uint256(one.amount) + one.amount / 16 + 1));
        return IEscrow.Item(entry.job, IEscrow.Receipt(one.amount, 0, one.r, one.vs), amount);
    }

    function canCapture(Entry storage entry, IEscrow.Item memory item) internal view returns (bool) {
        return !entry.closed && item.receipt.r != 0 && item.amount <= item.receipt.amount;
    }

    function captureCall(IEscrow.Item memory item, bool closing) internal pure returns (bytes memory) {
        return closing
            ? abi.encodeCall(Escrow.settle, (item.job, item.receipt, item.amount))
            : abi.encodeCall(Escrow.claim, (item.job, item.receipt, item.amount));
    }

    function authorize(uint256 who, uint256 amount, bytes32 nonce) internal view returns (bytes memory) {
        return signAuthorization(requester(who), requesterKey(who), amount, type(uint40).max, nonce);
    }

    function authorized(IEscrow.Job memory job, uint256 amount, bytes memory signature)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodeCall(
            Escrow.openWithAuthorization, (job, uint96(amount), 0, type(uint40).max, signature)
        );
    }

    function withdrawal(
        address owner,
        address to,
        uint256 amount,
        uint256 fee,
        bytes32 nonce,
        bytes memory signature
    ) internal pure returns (bytes memory) {
        return abi.encodeCall(
            Escrow.withdrawWithSignature,
            (owner, to, uint96(amount), uint96(fee), nonce, type(uint40).max, signature)
        );
    }
}
