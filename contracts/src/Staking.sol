// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Endpoint} from "./Endpoint.sol";

/// @dev What Staking asks of PubkeyRouter, which imports this file.
interface IGenesis {
    function networkAddress() external view returns (address);
}

/// @title Staking: the registry of nodes
/// @notice Says which nodes hold the keys, how many of them must agree, and how each proves who it is.
/// @dev The name and the views of validators are what existing clients look for; nothing is staked. The owner registers
/// the nodes of an attempt while the epoch is 0. `activate` starts the epoch of that attempt, after which no node comes or
/// goes; a node can still change where it is reached, never who it is. Until the nodes have agreed on the network key the
/// owner may start over without one that does not; then never again. Duplicates that would let one machine pass for two
/// parties are refused here, and again by the nodes.
contract Staking is Ownable2Step {
    struct Node {
        address nodeAddress;
        uint32 partyId;
        uint16 port;
        bytes32 tlsKey;
        string url;
        string meshHost;
    }

    /// @dev As existing clients decode it. Only `number` means something here.
    struct Epoch {
        uint256 epochLength;
        uint256 number;
        uint256 endTime;
        uint256 retries;
        uint256 timeout;
    }

    /// @dev As existing clients decode it. `ip` and `port` are those of the node's API.
    struct Validator {
        uint32 ip;
        uint128 ipv6;
        uint32 port;
        address nodeAddress;
        uint256 reward;
        uint256 senderPubKey;
        uint256 receiverPubKey;
    }

    enum States {
        Active,
        NextValidatorSetLocked,
        ReadyForNextEpoch,
        Unlocked,
        Paused,
        Restore
    }

    /// @dev What belongs to one attempt to start the network.
    struct Registry {
        Node[] nodes;
        mapping(address nodeAddress => uint256 partyId) partyOf;
        mapping(bytes32 tlsKey => bool) tlsKeyTaken;
        mapping(bytes32 urlHash => bool) urlTaken;
    }

    uint256 public constant MIN_NODES = 2;
    uint256 public constant MAX_NODES = 100;

    address public immutable router;

    /// @notice 0 while nodes are being registered, then the number of the attempt.
    uint256 public epoch;
    /// @notice How many nodes must agree; 0 before activation.
    uint256 public threshold;
    /// @notice Counts the attempts to start the network, from 1.
    uint256 public attempt = 1;

    mapping(uint256 attempt => Registry) private _registries;

    event NodeRegistered(address indexed nodeAddress, uint32 indexed partyId, bytes32 tlsKey);
    event EndpointUpdated(address indexed nodeAddress, string url, string meshHost, uint16 port);
    event StateChanged(States newState);
    event StartedOver(uint256 attempt);

    error AlreadyActive();
    error TooManyNodes();
    error TooFewNodes();
    error WrongThreshold(uint256 given, uint256 required);
    error ZeroNodeAddress();
    error ZeroTlsKey();
    error ZeroPort();
    error BadUrl();
    error BadHost();
    error DuplicateNodeAddress(address nodeAddress);
    error DuplicateTlsKey(bytes32 tlsKey);
    error DuplicateUrl(string url);
    error UnknownNode(address nodeAddress);
    error NetworkKeyIsFixed();
    error OwnerIsNeeded();

    constructor(address initialOwner, address router_) Ownable(initialOwner) {
        router = router_;
    }

    /// @notice Add a node; only before activation, only by the owner.
    /// @param nodeAddress The account with which the node votes on chain
    /// @param url Where its API is, for example `https://node1.example:7470`; see Endpoint for what is a URL here
    /// @param meshHost DNS name or IPv4 address at which the other nodes connect to it
    /// @param port TCP port at `meshHost`
    /// @param tlsKey SHA-256 of the SubjectPublicKeyInfo of its TLS key
    /// @return partyId 1, 2, ... in the order of registration; never 0, never used again in this attempt
    function register(
        address nodeAddress,
        string calldata url,
        string calldata meshHost,
        uint16 port,
        bytes32 tlsKey
    ) external onlyOwner returns (uint32 partyId) {
        Registry storage registry = _registries[attempt];
        if (epoch != 0) revert AlreadyActive();
        if (registry.nodes.length == MAX_NODES) revert TooManyNodes();
        if (nodeAddress == address(0)) revert ZeroNodeAddress();
        if (tlsKey == 0) revert ZeroTlsKey();
        if (registry.partyOf[nodeAddress] != 0) revert DuplicateNodeAddress(nodeAddress);
        if (registry.tlsKeyTaken[tlsKey]) revert DuplicateTlsKey(tlsKey);
        _checkEndpoint(url, meshHost, port);
        if (registry.urlTaken[keccak256(bytes(url))]) revert DuplicateUrl(url);

        partyId = uint32(registry.nodes.length + 1);
        registry.partyOf[nodeAddress] = partyId;
        registry.tlsKeyTaken[tlsKey] = true;
        registry.urlTaken[keccak256(bytes(url))] = true;
        registry.nodes.push(Node(nodeAddress, partyId, port, tlsKey, url, meshHost));
        emit NodeRegistered(nodeAddress, partyId, tlsKey);
        emit EndpointUpdated(nodeAddress, url, meshHost, port);
    }

    /// @notice Start the epoch. `required` must be what the rule gives, so that a typing error cannot lower it.
    function activate(uint256 required) external onlyOwner {
        uint256 count = nodeCount();
        if (epoch != 0) revert AlreadyActive();
        if (count < MIN_NODES) revert TooFewNodes();
        uint256 rule = (2 * count) / 3 + 1;
        if (required != rule) revert WrongThreshold(required, rule);
        epoch = attempt;
        threshold = rule;
        emit StateChanged(States.Active);
    }

    /// @notice Forget all nodes and votes, to register anew; only until the network key is fixed. No key exists before.
    function startOver() external onlyOwner {
        if (IGenesis(router).networkAddress() != address(0)) revert NetworkKeyIsFixed();
        epoch = 0;
        threshold = 0;
        emit StartedOver(++attempt);
        emit StateChanged(States.Paused);
    }

    /// @notice A node moves: new URL and mesh address, same key, same PartyId.
    /// @dev Its URL may be another node's: were it refused, whoever sees a move coming could stop it by naming the URL
    /// first. Naming another's URL harms only who does it, as nodes are told apart by their keys.
    function updateEndpoint(string calldata url, string calldata meshHost, uint16 port) external {
        Node storage node = _node(msg.sender);
        _checkEndpoint(url, meshHost, port);
        node.url = url;
        node.meshHost = meshHost;
        node.port = port;
        emit EndpointUpdated(msg.sender, url, meshHost, port);
    }

    /// @notice Refused: without an owner a network that has not started never could.
    function renounceOwnership() public view override onlyOwner {
        revert OwnerIsNeeded();
    }

    function state() external view returns (States) {
        return epoch == 0 ? States.Paused : States.Active;
    }

    /// @notice All nodes in the order of their PartyIds.
    function getNodes() external view returns (Node[] memory) {
        return _registries[attempt].nodes;
    }

    function nodeCount() public view returns (uint256) {
        return _registries[attempt].nodes.length;
    }

    function nodeOf(address nodeAddress) external view returns (Node memory) {
        return _node(nodeAddress);
    }

    /// @notice Whether the address is a node of the running epoch; false for all before activation.
    function isActiveNode(address nodeAddress) public view returns (bool) {
        return epoch != 0 && _registries[attempt].partyOf[nodeAddress] != 0;
    }

    // ------------------------------------------------------------------------------------- views of existing clients

    function currentValidatorCountForConsensus() external view returns (uint256) {
        return threshold;
    }

    /// @notice What clients of the earlier network ask for on connecting; empty before activation.
    /// @dev A node whose URL does not name an IPv4 address has ip 0 and port 0.
    function getActiveUnkickedValidatorStructsAndCounts()
        external
        view
        returns (Epoch memory current, uint256 minNodeCount, Validator[] memory validators)
    {
        current.number = epoch;
        return (current, threshold, getActiveUnkickedValidatorStructs());
    }

    function getActiveUnkickedValidatorStructs() public view returns (Validator[] memory) {
        return getValidatorsStructs(getValidatorsInCurrentEpoch());
    }

    /// @dev Reverts for an address that is no node.
    function getValidatorsStructs(address[] memory addresses) public view returns (Validator[] memory validators) {
        validators = new Validator[](addresses.length);
        for (uint256 i = 0; i < addresses.length; ++i) {
            Node storage node = _node(addresses[i]);
            (, uint32 ip, uint16 port) = Endpoint.parseUrl(bytes(node.url));
            uint256 key = uint256(node.tlsKey);
            validators[i] = Validator(ip, 0, ip == 0 ? 0 : port, node.nodeAddress, 0, key, key);
        }
    }

    /// @notice The nodes' addresses; empty before activation.
    function getValidatorsInCurrentEpoch() public view returns (address[] memory addresses) {
        Node[] storage nodes = _registries[attempt].nodes;
        addresses = new address[](getValidatorsInCurrentEpochLength());
        for (uint256 i = 0; i < addresses.length; ++i) {
            addresses[i] = nodes[i].nodeAddress;
        }
    }

    function getValidatorsInCurrentEpochLength() public view returns (uint256) {
        return epoch == 0 ? 0 : nodeCount();
    }

    function getActiveUnkickedValidators() external view returns (address[] memory) {
        return getValidatorsInCurrentEpoch();
    }

    /// @notice Nobody is ever kicked.
    function getKickedValidators() external pure returns (address[] memory none) {}

    function isActiveValidator(address nodeAddress) external view returns (bool) {
        return isActiveNode(nodeAddress);
    }

    function isActiveValidatorByNodeAddress(address nodeAddress) external view returns (bool) {
        return isActiveNode(nodeAddress);
    }

    /// @notice 2: ECDSA over secp256k1.
    function getKeyTypes() external pure returns (uint256[] memory types) {
        types = new uint256[](1);
        types[0] = 2;
    }

    // ------------------------------------------------------------------------------------------------------ internals

    function _node(address nodeAddress) private view returns (Node storage) {
        Registry storage registry = _registries[attempt];
        uint256 partyId = registry.partyOf[nodeAddress];
        if (partyId == 0) revert UnknownNode(nodeAddress);
        return registry.nodes[partyId - 1];
    }

    function _checkEndpoint(string calldata url, string calldata meshHost, uint16 port) private pure {
        (bool ok,,) = Endpoint.parseUrl(bytes(url));
        if (!ok) revert BadUrl();
        if (!Endpoint.isHost(bytes(meshHost))) revert BadHost();
        if (port == 0) revert ZeroPort();
    }
}
