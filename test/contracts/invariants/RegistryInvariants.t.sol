// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {Registry} from "../../../contracts/Registry.sol";
import {IRegistry} from "../../../contracts/interfaces/IRegistry.sol";
import {check, VM, within} from "./Vm.sol";

/// @title RegistryHandler
/// @notice Nodes, payees and strangers at a Registry, beside a model of the list and of every payee.
contract RegistryHandler {
    Registry public immutable registry = new Registry();

    address[] internal registered;
    mapping(address node => address) internal payees;
    mapping(address node => bool) internal actives;

    function register(uint256 seed, uint256 payeeSeed) external {
        address node = address(uint160(within(seed, 1, 40)));
        address payee = payeeAt(payeeSeed);
        bool ok = callAs(node, abi.encodeCall(Registry.register, (payee, "https://n", models())));
        check(ok == (payees[node] == address(0)), "a node registers once");
        if (!ok) return;
        registered.push(node);
        payees[node] = payee;
        actives[node] = true;
    }

    function setPayee(uint256 seed, uint256 payeeSeed, uint256 callerSeed) external {
        if (registered.length == 0) return;
        address node = registered[seed % registered.length];
        address payee = payeeAt(payeeSeed);
        address caller = callerSeed % 3 == 0 ? node : callerSeed % 3 == 1 ? payees[node] : payeeAt(callerSeed);
        bool ok = callAs(caller, abi.encodeCall(Registry.setPayee, (node, payee)));
        check(ok == (caller == payees[node]), "15: payee changes only by the payee");
        if (ok) payees[node] = payee;
    }

    function setActive(uint256 seed, bool active, bool byPayee) external {
        if (registered.length == 0) return;
        address node = registered[seed % registered.length];
        if (byPayee) {
            bytes memory data = abi.encodeWithSignature("setActive(address,bool)", node, active);
            bool ok = callAs(payees[node], data);
            check(ok == !active, "a payee retires a node, and cannot wake it");
            check(!callAs(address(0xBAD), data), "a stranger does neither");
            if (ok) actives[node] = false;
        } else {
            check(callAs(node, abi.encodeWithSignature("setActive(bool)", active)), "a node says whether it works");
            actives[node] = active;
        }
    }

    function update(uint256 seed) external {
        if (registered.length == 0) return;
        address node = registered[seed % registered.length];
        check(callAs(node, abi.encodeCall(Registry.setEndpoint, ("https://moved"))), "a node moves");
        check(callAs(node, abi.encodeCall(Registry.setModels, (models()))), "a node changes its models");
        check(!callAs(address(0xBAD), abi.encodeCall(Registry.setEndpoint, ("x"))), "a stranger has no node");
    }

    /// @notice Invariants 15 and 16.
    function checkList(uint256 pageSize) external view {
        check(registry.nodeCount() == registered.length, "16: nobody is lost or added");
        uint256 cursor;
        for (uint256 index; index < registered.length;) {
            (address[] memory page, uint256 next) = registry.nodesAt(cursor, pageSize);
            check(page.length > 0 && next == cursor + page.length, "16: pages go on until the end");
            for (uint256 i; i < page.length; ++i) {
                check(page[i] == registered[index++], "16: pages concatenate to the set");
            }
            cursor = next;
        }
        (address[] memory beyond,) = registry.nodesAt(cursor, pageSize);
        check(beyond.length == 0, "16: nothing follows the last page");
        for (uint256 i; i < registered.length; ++i) {
            IRegistry.Node memory node = registry.getNode(registered[i]);
            check(node.payee == payees[registered[i]], "15: payee is the payee's word");
            check(node.active == actives[registered[i]], "active is the last word of node or payee");
        }
    }

    function callAs(address caller, bytes memory data) internal returns (bool ok) {
        VM.prank(caller);
        (ok,) = address(registry).call(data);
    }

    function payeeAt(uint256 seed) internal pure returns (address) {
        return address(uint160(within(seed, 0xA001, 0xA006)));
    }

    function models() internal pure returns (IRegistry.Model[] memory list) {
        list = new IRegistry.Model[](2);
        list[0] = IRegistry.Model("a", bytes32(0), 1, 2);
        list[1] = IRegistry.Model("b", bytes32(uint256(1)), 3, 4);
    }
}

contract RegistryInvariantsTest {
    RegistryHandler internal handler;

    function setUp() public {
        handler = new RegistryHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_listAgrees() external view {
        handler.checkList(1);
        handler.checkList(3);
        handler.checkList(1000);
    }
}
