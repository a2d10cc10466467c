// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {TestUSDC} from "../../../contracts/mocks/TestUSDC.sol";
import {ITestToken} from "./EscrowModel.sol";
import {HostileToken} from "./HostileToken.sol";
import {RelayHandler} from "./RelayHandler.sol";
import {check} from "./Vm.sol";

/// @notice Invariants 1 to 9, 12 and 14 on a token that behaves like USDC.
contract EscrowInvariantsTest {
    RelayHandler internal handler;

    function setUp() public {
        handler = new RelayHandler(ITestToken(address(new TestUSDC())), true);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_booksAgree() external view {
        handler.checkBooks();
        handler.checkSolvency(true);
    }
}

/// @notice Invariant 11: the same on a token that pauses, blocks, cheats, returns false and re-enters.
contract EscrowHostileTokenInvariantsTest {
    RelayHandler internal handler;
    HostileToken internal token;

    function setUp() public {
        token = new HostileToken();
        handler = new RelayHandler(ITestToken(address(token)), false);
        token.aimAt(address(handler.escrow()));
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](2);
        targets[0] = address(handler);
        targets[1] = address(token);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// @dev Of the token only its moods are for the fuzzer: minting at will would be no token at all.
    function targetSelectors() external view returns (FuzzSelector[] memory chosen) {
        bytes4[] memory moods = new bytes4[](1);
        moods[0] = HostileToken.setMood.selector;
        chosen = new FuzzSelector[](1);
        chosen[0] = FuzzSelector(address(token), moods);
    }

    function invariant_booksAgreeWhateverTheTokenDoes() external view {
        handler.checkBooks();
        handler.checkSolvency(false);
        check(token.thefts() == 0, "11: re-entering gains nothing");
    }
}
