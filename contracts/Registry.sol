// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {IRegistry} from "./interfaces/IRegistry.sol";

/// @title Registry
/// @notice The public list of nodes. The rules stand in IRegistry.
contract Registry is IRegistry {
    /// @inheritdoc IRegistry
    uint256 public constant MAX_ENDPOINT_BYTES = 256;

    /// @inheritdoc IRegistry
    uint256 public constant MAX_MODELS = 64;

    /// @inheritdoc IRegistry
    uint256 public constant MAX_NAME_BYTES = 128;

    /// @inheritdoc IRegistry
    uint256 public constant MAX_PAGE = 500;

    address[] private _list;
    mapping(address node => Node) private _nodes;
    mapping(address node => Model[]) private _models;

    /// @dev The one place that tells registered nodes from others, and that dates every change.
    modifier updates(address node) {
        if (_nodes[node].registeredAt == 0) revert RegistryUnknownNode(node);
        _nodes[node].updatedAt = uint40(block.timestamp);
        _;
    }

    modifier onlyPayee(address node) {
        if (msg.sender != _nodes[node].payee) revert RegistryNotPayee(node, msg.sender);
        _;
    }

    // --------------------------------------------------------------------------------------------- by the node

    /// @inheritdoc IRegistry
    function register(address payee, string calldata endpoint, Model[] calldata models) external {
        Node storage node = _nodes[msg.sender];
        if (node.registeredAt != 0) revert RegistryAlreadyRegistered(msg.sender);

        node.registeredAt = uint40(block.timestamp);
        node.updatedAt = uint40(block.timestamp);
        _list.push(msg.sender);
        emit Registered(msg.sender, _list.length - 1);
        _setPayee(msg.sender, payee);
        _setEndpoint(msg.sender, endpoint);
        _setModels(msg.sender, models);
        _setActive(msg.sender, true);
    }

    /// @inheritdoc IRegistry
    function setEndpoint(string calldata endpoint) external updates(msg.sender) {
        _setEndpoint(msg.sender, endpoint);
    }

    /// @inheritdoc IRegistry
    function setModels(Model[] calldata models) external updates(msg.sender) {
        _setModels(msg.sender, models);
    }

    /// @inheritdoc IRegistry
    function setActive(bool active) external updates(msg.sender) {
        _setActive(msg.sender, active);
    }

    // -------------------------------------------------------------------------------------------- by the payee

    /// @inheritdoc IRegistry
    function setPayee(address node, address payee) external updates(node) onlyPayee(node) {
        _setPayee(node, payee);
    }

    /// @inheritdoc IRegistry
    function setActive(address node, bool active) external updates(node) onlyPayee(node) {
        if (active) revert RegistryOnlyNodeActivates(node);
        _setActive(node, active);
    }

    // -------------------------------------------------------------------------------------------------- views

    /// @inheritdoc IRegistry
    function nodeCount() external view returns (uint256) {
        return _list.length;
    }

    /// @inheritdoc IRegistry
    function nodesAt(uint256 cursor, uint256 limit) external view returns (address[] memory page, uint256 next) {
        uint256 count = _list.length;
        if (cursor > count) cursor = count;
        if (limit > MAX_PAGE) limit = MAX_PAGE;
        if (limit > count - cursor) limit = count - cursor;

        page = new address[](limit);
        for (uint256 i; i < limit; ++i) {
            page[i] = _list[cursor + i];
        }
        next = cursor + limit;
    }

    /// @inheritdoc IRegistry
    function getNode(address node) external view returns (Node memory) {
        return _nodes[node];
    }

    /// @inheritdoc IRegistry
    function modelsOf(address node) external view returns (Model[] memory) {
        return _models[node];
    }

    // -------------------------------------------------------------------------------------------------- inside

    function _setPayee(address node, address payee) private {
        if (payee == address(0)) revert RegistryZeroPayee();
        _nodes[node].payee = payee;
        emit PayeeChanged(node, payee);
    }

    function _setEndpoint(address node, string calldata endpoint) private {
        uint256 length = bytes(endpoint).length;
        if (length == 0 || length > MAX_ENDPOINT_BYTES) revert RegistryBadEndpoint(length, MAX_ENDPOINT_BYTES);
        _nodes[node].endpoint = endpoint;
        emit EndpointChanged(node, endpoint);
    }

    function _setModels(address node, Model[] calldata models) private {
        _checkModels(models);
        delete _models[node];
        for (uint256 i; i < models.length; ++i) {
            _models[node].push(models[i]);
        }
        emit ModelsChanged(node, models);
    }

    function _setActive(address node, bool active) private {
        _nodes[node].active = active;
        emit ActiveChanged(node, active);
    }

    function _checkModels(Model[] calldata models) private pure {
        uint256 count = models.length;
        if (count == 0 || count > MAX_MODELS) revert RegistryBadModelCount(count, MAX_MODELS);

        bytes32[] memory names = new bytes32[](count);
        for (uint256 i; i < count; ++i) {
            bytes calldata name = bytes(models[i].name);
            if (name.length == 0 || name.length > MAX_NAME_BYTES) {
                revert RegistryBadModelName(i, name.length, MAX_NAME_BYTES);
            }
            names[i] = keccak256(name);
            for (uint256 j; j < i; ++j) {
                if (names[j] == names[i]) revert RegistryDuplicateModel(j, i);
            }
        }
    }
}
