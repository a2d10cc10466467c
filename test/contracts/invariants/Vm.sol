// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

/// @notice The part of the test machine's cheat codes that these tests use.
interface Vm {
    function warp(uint256 timestamp) external;
    function prank(address caller) external;
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function assume(bool condition) external pure;
    function toString(uint256 value) external pure returns (string memory);
    function envOr(string calldata name, string calldata otherwise) external view returns (string memory);
    function writeLine(string calldata path, string calldata line) external;
}

Vm constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

/// @notice What fails a test, with the words that say which rule broke.
error RuleBroken(string rule);

function check(bool condition, string memory rule) pure {
    if (!condition) revert RuleBroken(rule);
}

/// @notice `value` folded into [low, high].
function within(uint256 value, uint256 low, uint256 high) pure returns (uint256) {
    return low + (value % (high - low + 1));
}
