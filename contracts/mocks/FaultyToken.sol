// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

/// @title FaultyToken
/// @notice A token that injects one fault: it returns false, moves too little, or calls back from inside a transfer.
/// @dev Asks for no allowance and no signature: only the Escrow's own defences are under test.
contract FaultyToken {
    mapping(address account => uint256) public balanceOf;
    bool public returnsFalse;
    uint256 public missing;

    address public callee;
    bytes public callData;
    bool public callSucceeded;
    bytes public callResult;

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
    }

    /// @notice From now on transfers change nothing and return false.
    function returnFalse() external {
        returnsFalse = true;
    }

    /// @notice From now on the receiver of a transfer gets `value` less.
    function keepBack(uint256 value) external {
        missing = value;
    }

    /// @notice The next transfer calls `to` with `data` before it moves anything, and keeps the outcome.
    function callBack(address to, bytes calldata data) external {
        callee = to;
        callData = data;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        return _move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        return _move(from, to, value);
    }

    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256,
        uint256,
        bytes32,
        bytes calldata
    ) external {
        _move(from, to, value);
    }

    function _move(address from, address to, uint256 value) private returns (bool) {
        if (callee != address(0)) {
            address called = callee;
            callee = address(0);
            (callSucceeded, callResult) = called.call(callData);
        }
        if (returnsFalse) return false;
        balanceOf[from] -= value;
        balanceOf[to] += value - missing;
        return true;
    }
}
