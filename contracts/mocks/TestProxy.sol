// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

/// @title TestProxy
/// @notice Stands where USDC's proxy stands, at the same cost: admin and implementation are read on every call.
contract TestProxy {
    // The slots of ERC-1967, so that no slot of the implementation is touched.
    bytes32 private constant IMPLEMENTATION = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;
    bytes32 private constant ADMIN = 0xb53127684a568b3173ae13b9f8a6016e243e63b6e8ee1178d6a717850b5d6103;

    constructor(address implementation, address admin) {
        assembly ("memory-safe") {
            sstore(IMPLEMENTATION, implementation)
            sstore(ADMIN, admin)
        }
    }

    fallback() external {
        assembly {
            if eq(caller(), sload(ADMIN)) { revert(0, 0) }
            calldatacopy(0, 0, calldatasize())
            let ok := delegatecall(gas(), sload(IMPLEMENTATION), 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            if iszero(ok) { revert(0, returndatasize()) }
            return(0, returndatasize())
        }
    }
}
