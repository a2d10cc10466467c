// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

/// @title IEscrow
/// @notice Holds a requester's USDC for one node's work and moves it only as the requester's receipts say.
/// @dev One immutable token without transfer fees per Escrow. No owner, proxy, pause or fee. Amounts are the
/// token's base units; times are Unix seconds. `claim`, `settle`, `refund`, `open` and `openWithSignature` never
/// call the token, so whoever the token blocks, each side of a job can act as far as the other.
/// All signatures are EIP-712 in the domain {"Infernet Escrow", "1", chainId, this}. The domain follows the chain
/// id: on a fork that changes it, jobs that were open cannot be named any more.
interface IEscrow {
    // ------------------------------------------------------------------------------------------------ structs

    /// @notice The terms of one job; they travel as calldata and only their digest is stored.
    /// @param requester Pays, and gets back what is not claimed; may be a smart wallet.
    /// @param signer The key whose receipts move the money: ECDSA only, so that no wallet code can void a receipt.
    /// @param node The provider's identity, which may claim, settle and refund.
    /// @param payee Where the earnings belong; may claim, settle and refund too.
    /// @param jobHash keccak256(abi.encode(salt, offerHash, requestHash)); opaque to the Escrow.
    /// @param deadline From this time on anyone may refund.
    struct Job {
        address requester;
        address signer;
        address node;
        address payee;
        bytes32 jobHash;
        uint40 deadline;
    }

    /// @notice What is stored of a job: one slot, kept after closing so that an id is never used again.
    /// @param deposit What the job was opened with.
    /// @param claimed What the payee has earned of it; never falls.
    /// @param status 0 none, 1 open, 2 closed.
    struct State {
        uint96 deposit;
        uint96 claimed;
        uint8 status;
    }

    /// @notice The signer's word "up to this cumulative amount".
    /// @param amount The highest total that may be claimed with this receipt.
    /// @param transcript The transcript that the signer acknowledges, or zero; opaque to the Escrow.
    /// @param r First half of the compact (ERC-2098) signature over Receipt(jobId, amount, transcript).
    /// @param vs Second half: parity bit and low s.
    struct Receipt {
        uint96 amount;
        bytes32 transcript;
        bytes32 r;
        bytes32 vs;
    }

    /// @notice One claim or settlement of a batch.
    struct Item {
        Job job;
        Receipt receipt;
        uint96 amount;
    }

    // ------------------------------------------------------------------------------------------------- events

    /// @notice `owner`'s credit rose by `amount`.
    event Deposited(address indexed owner, uint256 amount);

    /// @notice `owner`'s credit fell by `amount`, which `to` received, and by `fee`, which `by` received.
    event Withdrawn(address indexed owner, address indexed to, uint256 amount, uint256 fee, address by);

    /// @notice A job opened; the event carries all of its terms.
    event Opened(
        bytes32 indexed jobId,
        address indexed requester,
        address indexed node,
        address signer,
        address payee,
        bytes32 jobHash,
        uint40 deadline,
        uint96 amount
    );

    /// @notice `payee` earned `amount` more, which makes `claimed` in all.
    event Claimed(bytes32 indexed jobId, address indexed payee, uint96 amount, uint96 claimed);

    /// @notice The job closed by settlement; `returned` went to the requester's credit.
    event Settled(bytes32 indexed jobId, address indexed requester, uint96 returned);

    /// @notice The job closed by refund; `returned` went to the requester's credit.
    event Refunded(bytes32 indexed jobId, address indexed requester, uint96 returned);

    /// @notice `payee`'s earnings left as USDC.
    event PaidOut(address indexed payee, uint256 amount);

    /// @notice An item of a batch changed nothing; `reason` is the ABI-encoded error that it alone would revert with.
    /// @dev Diagnosis only: never an input of anybody's ledger.
    event ItemSkipped(uint256 index, bytes32 jobId, bytes reason);

    // ------------------------------------------------------------------------------------------------- errors

    /// @notice The token of a new Escrow has no code.
    error EscrowTokenWithoutCode(address token);

    /// @notice A deposit, withdrawal or job of nothing.
    error EscrowZeroAmount();

    /// @notice The token moved something else than it was told to.
    error EscrowTokenShortfall(uint256 expected, uint256 received);

    /// @notice A withdrawal to nobody or to the Escrow itself, where it would be lost.
    error EscrowBadRecipient(address to);

    /// @notice `owner` has less credit than the call needs.
    error EscrowCreditTooLow(address owner, uint256 available, uint256 needed);

    /// @notice The signature's time is over.
    error EscrowSignatureExpired(uint40 validBefore, uint256 timestamp);

    /// @notice The signature over `digest` is not `owner`'s.
    error EscrowBadSignature(address owner, bytes32 digest);

    /// @notice A withdrawal with this nonce was made before.
    error EscrowNonceUsed(address owner, bytes32 nonce);

    /// @notice Only the requester opens a job without a signature.
    error EscrowNotRequester(bytes32 jobId, address caller);

    /// @notice The job lacks a signer, node or payee, or names the Escrow as its payee.
    error EscrowBadParties(bytes32 jobId);

    /// @notice The deadline is not in (now, now + 30 days].
    error EscrowBadDeadline(bytes32 jobId, uint40 deadline, uint256 timestamp);

    /// @notice The job was opened before, and may be closed by now.
    error EscrowJobExists(bytes32 jobId, uint8 status);

    /// @notice The job was never opened (status 0) or is closed (status 2).
    error EscrowJobNotOpen(bytes32 jobId, uint8 status);

    /// @notice Only the job's node or payee claims and settles.
    error EscrowStranger(bytes32 jobId, address caller);

    /// @notice The claim is higher than the receipt allows.
    error EscrowAboveReceipt(bytes32 jobId, uint96 amount, uint96 receiptAmount);

    /// @notice The receipt is not signed by the job's signer; `recovered` is zero if it is no signature at all.
    error EscrowBadReceipt(bytes32 jobId, address recovered);

    /// @notice Before the deadline only the node or payee refunds.
    error EscrowTooEarly(bytes32 jobId, uint40 deadline, uint256 timestamp);

    /// @notice `payee` has nothing to be paid out.
    error EscrowNothingEarned(address payee);

    // ------------------------------------------------------------------------------------------------- credit

    /// @notice Moves `amount` of the caller's allowance into the caller's credit.
    function deposit(uint96 amount) external;

    /// @notice Moves `amount` into `owner`'s credit by an EIP-3009 ReceiveWithAuthorization that anyone may bring.
    /// @dev The authorisation's nonce is `depositDigest(owner, salt)`: it can end nowhere else.
    function depositWithAuthorization(
        address owner,
        uint96 amount,
        bytes32 salt,
        uint40 validAfter,
        uint40 validBefore,
        bytes calldata signature
    ) external;

    /// @notice Sends `amount` of the caller's credit to `to`.
    function withdraw(address to, uint96 amount) external;

    /// @notice Sends `amount` of `owner`'s credit to `to`, and `fee` of it on top to the caller.
    /// @dev EIP-712 Withdraw(address owner,address to,uint96 amount,uint96 fee,bytes32 nonce,uint40 validBefore);
    /// valid while now < `validBefore`. `owner` may be a smart wallet.
    function withdrawWithSignature(
        address owner,
        address to,
        uint96 amount,
        uint96 fee,
        bytes32 nonce,
        uint40 validBefore,
        bytes calldata signature
    ) external;

    // ------------------------------------------------------------------------------------------------ opening

    /// @notice Opens `job` with `amount` of the caller's credit; the caller is its requester.
    function open(Job calldata job, uint96 amount) external;

    /// @notice Opens `job` with `amount` of the requester's credit, as the requester signed.
    /// @dev EIP-712 Open(Job job,uint96 amount,uint40 validBefore)Job(...); valid while now < `validBefore`.
    /// The requester may be a deployed smart wallet (ERC-1271).
    function openWithSignature(Job calldata job, uint96 amount, uint40 validBefore, bytes calldata signature)
        external;

    /// @notice Opens `job` with `amount` straight from the requester's wallet, brought by anyone.
    /// @dev EIP-3009 ReceiveWithAuthorization from the requester to this with nonce = `jobId(job)`.
    function openWithAuthorization(
        Job calldata job,
        uint96 amount,
        uint40 validAfter,
        uint40 validBefore,
        bytes calldata signature
    ) external;

    // ------------------------------------------------------------------------------------------------ closing

    /// @notice Raises what the payee has earned of `job` to min(`amount`, deposit); a no-op if that is no more.
    /// @dev By the node or payee of an open job, before and after its deadline; `amount` <= `receipt.amount`.
    function claim(Job calldata job, Receipt calldata receipt, uint96 amount) external;

    /// @notice Makes each claim that would succeed alone; skips the others with an event.
    /// @dev Reverts as a whole only for calldata that is not a list of items or for want of gas.
    function claimBatch(Item[] calldata items) external;

    /// @notice Claims like `claim`, returns the rest to the requester's credit and closes the job.
    function settle(Job calldata job, Receipt calldata receipt, uint96 amount) external;

    /// @notice Makes each settlement that would succeed alone; skips the others with an event.
    /// @dev Reverts as a whole only for calldata that is not a list of items or for want of gas.
    function settleBatch(Item[] calldata items) external;

    /// @notice Returns what is not claimed to the requester's credit and closes the job.
    /// @dev By anyone from the deadline on, by the node or payee at any time.
    function refund(Job calldata job) external;

    /// @notice Sends all that `payee` has earned to `payee`; anyone may call.
    function payOut(address payee) external;

    // -------------------------------------------------------------------------------------------------- views

    /// @notice The ERC-20 that this Escrow holds.
    function usdc() external view returns (address);

    /// @notice The longest time from opening to deadline, in seconds.
    function MAX_JOB_SECONDS() external view returns (uint40);

    /// @notice What `owner` can open jobs with or withdraw.
    function credit(address owner) external view returns (uint256);

    /// @notice What `payee` can be paid out.
    function earned(address payee) external view returns (uint256);

    /// @notice The stored state of a job; zeros if it was never opened.
    function stateOf(bytes32 id) external view returns (State memory);

    /// @notice Whether `owner` has withdrawn by signature with `nonce`.
    function usedNonces(address owner, bytes32 nonce) external view returns (bool);

    /// @notice The name of a job: its EIP-712 digest, and the nonce of `openWithAuthorization`.
    function jobId(Job calldata job) external view returns (bytes32);

    /// @notice What the signer signs: Receipt(bytes32 jobId,uint96 amount,bytes32 transcript).
    function receiptDigest(bytes32 id, uint96 amount, bytes32 transcript) external view returns (bytes32);

    /// @notice What the requester signs for `openWithSignature`.
    function openDigest(Job calldata job, uint96 amount, uint40 validBefore) external view returns (bytes32);

    /// @notice The EIP-3009 nonce of `depositWithAuthorization`: Deposit(address owner,bytes32 salt).
    function depositDigest(address owner, bytes32 salt) external view returns (bytes32);

    /// @notice What the owner signs for `withdrawWithSignature`.
    function withdrawDigest(
        address owner,
        address to,
        uint96 amount,
        uint96 fee,
        bytes32 nonce,
        uint40 validBefore
    ) external view returns (bytes32);

    /// @notice The EIP-712 domain separator; `eip712Domain()` (ERC-5267) gives its fields.
    function domainSeparator() external view returns (bytes32);
}
