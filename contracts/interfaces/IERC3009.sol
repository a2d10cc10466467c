// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

/// @title IERC3009
/// @notice The one function of USDC's EIP-3009 that the Escrow calls: the overload that takes smart wallets too.
interface IERC3009 {
    /// @notice Moves `value` from `from` to `to` by `from`'s signature; only `to` may call.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes memory signature
    ) external;
}
