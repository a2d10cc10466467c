// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title FickleWallet
/// @notice A smart wallet that stands by its key's signatures only while it is willing: what it said, it can unsay.
contract FickleWallet is IERC1271 {
    address public immutable owner;
    bool public willing = true;

    constructor(address owner_) {
        owner = owner_;
    }

    function setWilling(bool willing_) external {
        willing = willing_;
    }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        (address recovered,,) = ECDSA.tryRecoverCalldata(hash, signature);
        return willing && recovered == owner ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}
