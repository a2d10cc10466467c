// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

/// @title IRegistry
/// @notice Where nodes say how to reach them, who is paid for their work, and what they ask at most.
/// @dev No owner, proxy, pause or fee. A node registers itself once and is never removed, only inactive.
interface IRegistry {
    // ------------------------------------------------------------------------------------------------ structs

    /// @notice A model that a node serves.
    /// @param name What requests name it by: 1 to MAX_NAME_BYTES bytes, unique within the node.
    /// @param digest Names the weights; zero if the node does not say.
    /// @param inputPrice Ceiling of the price in USDC base units per 1,000,000 prompt tokens.
    /// @param outputPrice Ceiling of the price in USDC base units per 1,000,000 completion tokens.
    struct Model {
        string name;
        bytes32 digest;
        uint64 inputPrice;
        uint64 outputPrice;
    }

    /// @notice All that is known of a node but its models; `registeredAt` is zero if it never registered.
    /// @param payee Whom jobs with the node must name as payee; only the payee itself changes it.
    /// @param active Whether the node wants new jobs.
    /// @param registeredAt Unix seconds of the registration.
    /// @param updatedAt Unix seconds of the last change of anything, models included.
    /// @param endpoint The URL of the node: 1 to MAX_ENDPOINT_BYTES bytes.
    struct Node {
        address payee;
        bool active;
        uint40 registeredAt;
        uint40 updatedAt;
        string endpoint;
    }

    // ------------------------------------------------------------------------------------------------- events

    /// @notice `node` registered; PayeeChanged, EndpointChanged, ModelsChanged and ActiveChanged follow.
    event Registered(address indexed node, uint256 index);

    /// @notice `node` is paid at `payee` from now on.
    event PayeeChanged(address indexed node, address indexed payee);

    /// @notice `node` is reached at `endpoint` from now on.
    event EndpointChanged(address indexed node, string endpoint);

    /// @notice `node` serves exactly these models from now on.
    event ModelsChanged(address indexed node, Model[] models);

    /// @notice `node` wants new jobs from now on, or wants no more.
    event ActiveChanged(address indexed node, bool active);

    // ------------------------------------------------------------------------------------------------- errors

    /// @notice A node registers once.
    error RegistryAlreadyRegistered(address node);

    /// @notice The caller, or the node that the call names, never registered.
    error RegistryUnknownNode(address node);

    /// @notice Only the node's payee does that.
    error RegistryNotPayee(address node, address caller);

    /// @notice The payee switches a node off, never on.
    error RegistryOnlyNodeActivates(address node);

    /// @notice Nobody cannot be paid.
    error RegistryZeroPayee();

    /// @notice An endpoint of 0 or too many bytes.
    error RegistryBadEndpoint(uint256 length, uint256 max);

    /// @notice A list of 0 or too many models.
    error RegistryBadModelCount(uint256 count, uint256 max);

    /// @notice The model at `index` has a name of 0 or too many bytes.
    error RegistryBadModelName(uint256 index, uint256 length, uint256 max);

    /// @notice The models at `first` and `second` have the same name, so the price would be in doubt.
    error RegistryDuplicateModel(uint256 first, uint256 second);

    // --------------------------------------------------------------------------------------------- by the node

    /// @notice Registers the caller as an active node.
    function register(address payee, string calldata endpoint, Model[] calldata models) external;

    /// @notice Changes where the calling node is reached.
    function setEndpoint(string calldata endpoint) external;

    /// @notice Replaces the calling node's models.
    function setModels(Model[] calldata models) external;

    /// @notice Switches the calling node on or off.
    function setActive(bool active) external;

    // -------------------------------------------------------------------------------------------- by the payee

    /// @notice Hands the earnings of `node`'s future jobs, and this right, to `payee`.
    function setPayee(address node, address payee) external;

    /// @notice Switches `node` off; `active` must be false.
    function setActive(address node, bool active) external;

    // -------------------------------------------------------------------------------------------------- views

    /// @notice The most bytes of an endpoint.
    function MAX_ENDPOINT_BYTES() external view returns (uint256);

    /// @notice The most models of a node.
    function MAX_MODELS() external view returns (uint256);

    /// @notice The most bytes of a model's name.
    function MAX_NAME_BYTES() external view returns (uint256);

    /// @notice The most nodes of a page.
    function MAX_PAGE() external view returns (uint256);

    /// @notice How many nodes ever registered.
    function nodeCount() external view returns (uint256);

    /// @notice Up to `limit` (at most MAX_PAGE) nodes from position `cursor` on, in order of registration.
    /// @return page The nodes; empty at the end.
    /// @return next The cursor of the next page; at the end it stays valid for nodes that register later.
    function nodesAt(uint256 cursor, uint256 limit) external view returns (address[] memory page, uint256 next);

    /// @notice What is known of `node`; zeros and an empty endpoint if it never registered.
    function getNode(address node) external view returns (Node memory);

    /// @notice The models of `node`; none if it never registered.
    function modelsOf(address node) external view returns (Model[] memory);
}
