// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {TestUSDC} from "../../../contracts/mocks/TestUSDC.sol";
import {EscrowBatchTest} from "./EscrowBatch.t.sol";
import {ITestToken} from "./EscrowModel.sol";
import {HostileToken} from "./HostileToken.sol";
import {RegistryHandler} from "./RegistryInvariants.t.sol";
import {RelayHandler} from "./RelayHandler.sol";
import {check, VM} from "./Vm.sol";

/// @notice All sixteen invariants in one campaign, asserted after every call: what `npm run test:deep` runs.
contract CampaignTest {
    RelayHandler internal honest;
    RelayHandler internal hostile;
    HostileToken internal hostileToken;
    EscrowBatchTest internal batches;
    RegistryHandler internal registry;

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function setUp() public {
        honest = new RelayHandler(ITestToken(address(new TestUSDC())), true);
        hostileToken = new HostileToken();
        hostile = new RelayHandler(ITestToken(address(hostileToken)), false);
        hostileToken.aimAt(address(hostile.escrow()));
        batches = new EscrowBatchTest();
        batches.setUp();
        registry = new RegistryHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](5);
        targets[0] = address(honest);
        targets[1] = address(hostile);
        targets[2] = address(hostileToken);
        targets[3] = address(batches);
        targets[4] = address(registry);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory chosen) {
        chosen = new FuzzSelector[](2);
        bytes4[] memory moods = new bytes4[](1);
        moods[0] = HostileToken.setMood.selector;
        chosen[0] = FuzzSelector(address(hostileToken), moods);
        bytes4[] memory comparisons = new bytes4[](1);
        comparisons[0] = EscrowBatchTest.testFuzz_batchEqualsItsItemsInAnyOrder.selector;
        chosen[1] = FuzzSelector(address(batches), comparisons);
    }

    /// @dev 10 and 13 are asserted inside the batches that the handlers make.
    function invariant_allHold() external view {
        honest.checkBooks();
        honest.checkSolvency(true);
        hostile.checkBooks();
        hostile.checkSolvency(false);
        check(hostileToken.thefts() == 0, "11: re-entering gains nothing");
        registry.checkList(1);
        registry.checkList(3);
        registry.checkList(1000);
    }

    /// @notice Once a run: what the handlers reached, a line for `npm run test:deep` to add up.
    function afterInvariant() external {
        string memory path = VM.envOr("INFERNET_REACH_FILE", string(""));
        if (bytes(path).length == 0) return;
        VM.writeLine(path, string.concat("honest ", honest.reach()));
        VM.writeLine(path, string.concat("hostile ", hostile.reach()));
    }
}
