// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IERC3009} from "./interfaces/IERC3009.sol";
import {IEscrow} from "./interfaces/IEscrow.sol";
import {EscrowTypes} from "./libraries/EscrowTypes.sol";

/// @title Escrow
/// @notice The money of every job: credit, deposits, earnings. The rules stand in IEscrow.
contract Escrow is IEscrow, EIP712, ReentrancyGuard {
    using SafeERC20 for IERC20;

    uint8 private constant OPEN = 1;
    uint8 private constant CLOSED = 2;

    /// @inheritdoc IEscrow
    uint40 public constant MAX_JOB_SECONDS = 30 days;

    /// @inheritdoc IEscrow
    address public immutable usdc;

    /// @inheritdoc IEscrow
    mapping(address owner => uint256) public credit;

    /// @inheritdoc IEscrow
    mapping(address payee => uint256) public earned;

    /// @inheritdoc IEscrow
    mapping(address owner => mapping(bytes32 nonce => bool)) public usedNonces;

    mapping(bytes32 id => State) private _states;

    constructor(address token) EIP712("Infernet Escrow", "1") {
        if (token.code.length == 0) revert EscrowTokenWithoutCode(token);
        usdc = token;
    }

    // ------------------------------------------------------------------------------------------------- credit

    /// @inheritdoc IEscrow
    function deposit(uint96 amount) external nonReentrant {
        _addDeposit(msg.sender, amount);
        uint256 expected = _balance() + amount;
        IERC20(usdc).safeTransferFrom(msg.sender, address(this), amount);
        _checkBalance(expected);
    }

    /// @inheritdoc IEscrow
    function depositWithAuthorization(
        address owner,
        uint96 amount,
        bytes32 salt,
        uint40 validAfter,
        uint40 validBefore,
        bytes calldata signature
    ) external nonReentrant {
        _addDeposit(owner, amount);
        _receive(owner, amount, validAfter, validBefore, depositDigest(owner, salt), signature);
    }

    /// @inheritdoc IEscrow
    function withdraw(address to, uint96 amount) external {
        _withdraw(msg.sender, to, amount, 0);
    }

    /// @inheritdoc IEscrow
    function withdrawWithSignature(
        address owner,
        address to,
        uint96 amount,
        uint96 fee,
        bytes32 nonce,
        uint40 validBefore,
        bytes calldata signature
    ) external {
        if (usedNonces[owner][nonce]) revert EscrowNonceUsed(owner, nonce);
        bytes32 digest = withdrawDigest(owner, to, amount, fee, nonce, validBefore);
        _checkSignature(owner, digest, validBefore, signature);
        usedNonces[owner][nonce] = true;
        _withdraw(owner, to, amount, fee);
    }

    // ------------------------------------------------------------------------------------------------ opening

    /// @inheritdoc IEscrow
    function open(Job calldata job, uint96 amount) external {
        bytes32 id = jobId(job);
        if (msg.sender != job.requester) revert EscrowNotRequester(id, msg.sender);
        _spendCredit(job.requester, amount);
        _open(id, job, amount);
    }

    /// @inheritdoc IEscrow
    function openWithSignature(Job calldata job, uint96 amount, uint40 validBefore, bytes calldata signature)
        external
    {
        _checkSignature(job.requester, openDigest(job, amount, validBefore), validBefore, signature);
        _spendCredit(job.requester, amount);
        _open(jobId(job), job, amount);
    }

    /// @inheritdoc IEscrow
    function openWithAuthorization(
        Job calldata job,
        uint96 amount,
        uint40 validAfter,
        uint40 validBefore,
        bytes calldata signature
    ) external nonReentrant {
        bytes32 id = jobId(job);
        _open(id, job, amount);
        _receive(job.requester, amount, validAfter, validBefore, id, signature);
    }

    // ------------------------------------------------------------------------------------------------ closing

    /// @inheritdoc IEscrow
    function claim(Job calldata job, Receipt calldata receipt, uint96 amount) external {
        (, bytes memory fault) = _capture(job, receipt, amount, false);
        if (fault.length != 0) LowLevelCall.bubbleRevert(fault);
    }

    /// @inheritdoc IEscrow
    function claimBatch(Item[] calldata items) external {
        _captureBatch(items, false);
    }

    /// @inheritdoc IEscrow
    function settle(Job calldata job, Receipt calldata receipt, uint96 amount) external {
        (, bytes memory fault) = _capture(job, receipt, amount, true);
        if (fault.length != 0) LowLevelCall.bubbleRevert(fault);
    }

    /// @inheritdoc IEscrow
    function settleBatch(Item[] calldata items) external {
        _captureBatch(items, true);
    }

    /// @inheritdoc IEscrow
    function refund(Job calldata job) external {
        bytes32 id = jobId(job);
        State memory state = _states[id];
        if (state.status != OPEN) revert EscrowJobNotOpen(id, state.status);
        if (block.timestamp < job.deadline && _isStranger(job)) {
            revert EscrowTooEarly(id, job.deadline, block.timestamp);
        }

        uint96 returned = state.deposit - state.claimed;
        _store(id, state.deposit, state.claimed, CLOSED);
        if (returned != 0) credit[job.requester] += returned;
        emit Refunded(id, job.requester, returned);
    }

    /// @inheritdoc IEscrow
    function payOut(address payee) external {
        uint256 amount = earned[payee];
        if (amount == 0) revert EscrowNothingEarned(payee);

        earned[payee] = 0;
        emit PaidOut(payee, amount);
        IERC20(usdc).safeTransfer(payee, amount);
    }

    // -------------------------------------------------------------------------------------------------- views

    /// @inheritdoc IEscrow
    function stateOf(bytes32 id) external view returns (State memory) {
        return _states[id];
    }

    /// @inheritdoc IEscrow
    function jobId(Job calldata job) public view returns (bytes32) {
        return _hashTypedDataV4(EscrowTypes.hashJob(job));
    }

    /// @inheritdoc IEscrow
    function receiptDigest(bytes32 id, uint96 amount, bytes32 transcript) public view returns (bytes32) {
        return _hashTypedDataV4(EscrowTypes.hashReceipt(id, amount, transcript));
    }

    /// @inheritdoc IEscrow
    function openDigest(Job calldata job, uint96 amount, uint40 validBefore) public view returns (bytes32) {
        return _hashTypedDataV4(EscrowTypes.hashOpen(job, amount, validBefore));
    }

    /// @inheritdoc IEscrow
    function depositDigest(address owner, bytes32 salt) public view returns (bytes32) {
        return _hashTypedDataV4(EscrowTypes.hashDeposit(owner, salt));
    }

    /// @inheritdoc IEscrow
    function withdrawDigest(
        address owner,
        address to,
        uint96 amount,
        uint96 fee,
        bytes32 nonce,
        uint40 validBefore
    ) public view returns (bytes32) {
        return _hashTypedDataV4(EscrowTypes.hashWithdraw(owner, to, amount, fee, nonce, validBefore));
    }

    /// @inheritdoc IEscrow
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    // ---------------------------------------------------------------------------------------- inside: credit

    function _addDeposit(address owner, uint96 amount) private {
        if (amount == 0) revert EscrowZeroAmount();
        credit[owner] += amount;
        emit Deposited(owner, amount);
    }

    function _spendCredit(address owner, uint256 amount) private {
        uint256 available = credit[owner];
        if (available < amount) revert EscrowCreditTooLow(owner, available, amount);
        unchecked {
            credit[owner] = available - amount; // `available >= amount` was checked.
        }
    }

    function _withdraw(address owner, address to, uint96 amount, uint96 fee) private {
        if (amount == 0) revert EscrowZeroAmount();
        if (to == address(0) || to == address(this)) revert EscrowBadRecipient(to);
        _spendCredit(owner, uint256(amount) + fee);
        emit Withdrawn(owner, to, amount, fee, msg.sender);
        IERC20(usdc).safeTransfer(to, amount);
        if (fee != 0) IERC20(usdc).safeTransfer(msg.sender, fee);
    }

    /// @dev `purpose` is the digest of what the money is for: no caller may choose it.
    function _receive(
        address from,
        uint96 amount,
        uint40 validAfter,
        uint40 validBefore,
        bytes32 purpose,
        bytes calldata signature
    ) private {
        uint256 expected = _balance() + amount;
        IERC3009(usdc).receiveWithAuthorization(
            from, address(this), amount, validAfter, validBefore, purpose, signature
        );
        _checkBalance(expected);
    }

    function _balance() private view returns (uint256) {
        return IERC20(usdc).balanceOf(address(this));
    }

    /// @dev Holds the token to its word. The callers are `nonReentrant`, so that no second deposit inside the
    /// transfer can pass for the first; a withdrawal inside it only makes this fail.
    function _checkBalance(uint256 expected) private view {
        uint256 balance = _balance();
        if (balance < expected) revert EscrowTokenShortfall(expected, balance);
    }

    function _checkSignature(address owner, bytes32 digest, uint40 validBefore, bytes calldata signature)
        private
        view
    {
        if (block.timestamp >= validBefore) revert EscrowSignatureExpired(validBefore, block.timestamp);
        if (!SignatureChecker.isValidSignatureNowCalldata(owner, digest, signature)) {
            revert EscrowBadSignature(owner, digest);
        }
    }

    // ------------------------------------------------------------------------------------------ inside: jobs

    function _open(bytes32 id, Job calldata job, uint96 amount) private {
        uint8 status = _states[id].status;
        if (status != 0) revert EscrowJobExists(id, status);
        if (amount == 0) revert EscrowZeroAmount();
        if (
            job.signer == address(0) || job.node == address(0) || job.payee == address(0)
                || job.payee == address(this)
        ) revert EscrowBadParties(id);
        if (job.deadline <= block.timestamp || job.deadline > block.timestamp + MAX_JOB_SECONDS) {
            revert EscrowBadDeadline(id, job.deadline, block.timestamp);
        }

        _store(id, amount, 0, OPEN);
        emit Opened(id, job.requester, job.node, job.signer, job.payee, job.jobHash, job.deadline, amount);
    }

    function _captureBatch(Item[] calldata items, bool closing) private {
        for (uint256 i; i < items.length; ++i) {
            Item calldata item = items[i];
            (bytes32 id, bytes memory fault) = _capture(item.job, item.receipt, item.amount, closing);
            if (fault.length != 0) emit ItemSkipped(i, id, fault);
        }
    }

    /// @dev Claims, and settles if `closing`. Either `fault` is empty or nothing has changed and it is the error to
    /// revert with: returned, because one bad item must not undo a batch.
    function _capture(Job calldata job, Receipt calldata receipt, uint96 amount, bool closing)
        private
        returns (bytes32 id, bytes memory fault)
    {
        id = jobId(job);
        State memory state = _states[id];
        fault = _faultOf(id, job, receipt, amount, state.status);
        if (fault.length != 0) return (id, fault);

        uint96 claimed = amount < state.deposit ? amount : state.deposit;
        if (claimed <= state.claimed) {
            if (!closing) return (id, fault);
            claimed = state.claimed;
        }
        uint96 gained;
        uint96 returned;
        unchecked {
            gained = claimed - state.claimed; // `state.claimed <= claimed <= state.deposit` holds here.
            if (closing) returned = state.deposit - claimed;
        }

        _store(id, state.deposit, claimed, closing ? CLOSED : OPEN);
        if (gained != 0) earned[job.payee] += gained;
        if (returned != 0) credit[job.requester] += returned;
        if (gained != 0) emit Claimed(id, job.payee, gained, claimed);
        if (closing) emit Settled(id, job.requester, returned);
    }

    function _faultOf(bytes32 id, Job calldata job, Receipt calldata receipt, uint96 amount, uint8 status)
        private
        view
        returns (bytes memory fault)
    {
        if (_isStranger(job)) return abi.encodeWithSelector(EscrowStranger.selector, id, msg.sender);
        if (status != OPEN) return abi.encodeWithSelector(EscrowJobNotOpen.selector, id, status);
        if (amount > receipt.amount) {
            return abi.encodeWithSelector(EscrowAboveReceipt.selector, id, amount, receipt.amount);
        }
        bytes32 digest = receiptDigest(id, receipt.amount, receipt.transcript);
        (address recovered,,) = ECDSA.tryRecover(digest, receipt.r, receipt.vs);
        if (recovered != job.signer) return abi.encodeWithSelector(EscrowBadReceipt.selector, id, recovered);
    }

    /// @dev Writes a State at once: the compiler would read the slot again and write it field by field.
    function _store(bytes32 id, uint96 deposited, uint96 claimed, uint8 status) private {
        State storage state = _states[id];
        uint256 word = deposited | uint256(claimed) << 96 | uint256(status) << 192;
        assembly ("memory-safe") {
            sstore(state.slot, word)
        }
    }

    function _isStranger(Job calldata job) private view returns (bool) {
        return msg.sender != job.node && msg.sender != job.payee;
    }
}
