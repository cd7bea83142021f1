// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Ipv4Url} from "./Ipv4Url.sol";

/// @title Staking: the registry of nodes
/// @notice Says which nodes hold the keys, how many of them must agree, and how each proves who it is.
/// @dev The name and the view `getActiveUnkickedValidatorStructsAndCounts` are what existing clients look for; nothing
/// is staked. The owner registers the nodes while the epoch is 0. `activate` starts epoch 1, after which no node comes
/// or goes; a node can still change where it is reached, never who it is. Every duplicate that would let one machine
/// pass for two parties is refused here, and again by the nodes.
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

    uint256 public constant MIN_NODES = 2;
    uint256 public constant MAX_NODES = 100;
    uint256 public constant MAX_TEXT = 256;

    /// @notice 0 while nodes are being registered, then 1.
    uint256 public epoch;
    /// @notice How many nodes must agree; 0 before activation.
    uint256 public threshold;

    Node[] private _nodes;
    mapping(address nodeAddress => uint256 partyId) private _partyOf;
    mapping(bytes32 tlsKey => bool) private _tlsKeyTaken;
    mapping(bytes32 urlHash => bool) private _urlTaken;

    event NodeRegistered(address indexed nodeAddress, uint32 indexed partyId, bytes32 tlsKey);
    event EndpointUpdated(address indexed nodeAddress, string url, string meshHost, uint16 port);
    event StateChanged(States newState);

    error AlreadyActive();
    error TooManyNodes();
    error TooFewNodes();
    error WrongThreshold(uint256 given, uint256 required);
    error ZeroNodeAddress();
    error ZeroTlsKey();
    error ZeroPort();
    error BadText();
    error DuplicateNodeAddress(address nodeAddress);
    error DuplicateTlsKey(bytes32 tlsKey);
    error DuplicateUrl(string url);
    error UnknownNode(address nodeAddress);

    constructor(address initialOwner) Ownable(initialOwner) {}

    /// @notice Add a node; only before activation, only by the owner.
    /// @param nodeAddress The account with which the node votes on chain
    /// @param url Where its API is, for example `https://node1.example:7470`
    /// @param meshHost Name or address at which the other nodes connect to it
    /// @param port TCP port at `meshHost`
    /// @param tlsKey SHA-256 of the SubjectPublicKeyInfo of its TLS key
    /// @return partyId 1, 2, ... in the order of registration; never 0, never used again
    function register(
        address nodeAddress,
        string calldata url,
        string calldata meshHost,
        uint16 port,
        bytes32 tlsKey
    ) external onlyOwner returns (uint32 partyId) {
        if (epoch != 0) revert AlreadyActive();
        if (_nodes.length == MAX_NODES) revert TooManyNodes();
        if (nodeAddress == address(0)) revert ZeroNodeAddress();
        if (tlsKey == 0) revert ZeroTlsKey();
        if (_partyOf[nodeAddress] != 0) revert DuplicateNodeAddress(nodeAddress);
        if (_tlsKeyTaken[tlsKey]) revert DuplicateTlsKey(tlsKey);
        _checkEndpoint(url, meshHost, port);
        _claimUrl(url);

        partyId = uint32(_nodes.length + 1);
        _partyOf[nodeAddress] = partyId;
        _tlsKeyTaken[tlsKey] = true;
        _nodes.push(Node(nodeAddress, partyId, port, tlsKey, url, meshHost));
        emit NodeRegistered(nodeAddress, partyId, tlsKey);
        emit EndpointUpdated(nodeAddress, url, meshHost, port);
    }

    /// @notice Start epoch 1. `required` must be what the rule gives, so that a typing error cannot lower it.
    function activate(uint256 required) external onlyOwner {
        if (epoch != 0) revert AlreadyActive();
        if (_nodes.length < MIN_NODES) revert TooFewNodes();
        uint256 rule = (2 * _nodes.length) / 3 + 1;
        if (required != rule) revert WrongThreshold(required, rule);
        epoch = 1;
        threshold = rule;
        emit StateChanged(States.Active);
    }

    /// @notice A node moves: new URL and mesh address, same key, same PartyId.
    function updateEndpoint(string calldata url, string calldata meshHost, uint16 port) external {
        Node storage node = _node(msg.sender);
        _checkEndpoint(url, meshHost, port);
        _urlTaken[keccak256(bytes(node.url))] = false;
        _claimUrl(url);
        node.url = url;
        node.meshHost = meshHost;
        node.port = port;
        emit EndpointUpdated(msg.sender, url, meshHost, port);
    }

    function state() external view returns (States) {
        return epoch == 0 ? States.Paused : States.Active;
    }

    /// @notice All nodes in the order of their PartyIds.
    function getNodes() external view returns (Node[] memory) {
        return _nodes;
    }

    function nodeCount() external view returns (uint256) {
        return _nodes.length;
    }

    function nodeOf(address nodeAddress) external view returns (Node memory) {
        return _node(nodeAddress);
    }

    /// @notice Whether the address is a node of the running epoch; false for all before activation.
    function isActiveNode(address nodeAddress) external view returns (bool) {
        return epoch != 0 && _partyOf[nodeAddress] != 0;
    }

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
        minNodeCount = threshold;
        validators = new Validator[](epoch == 0 ? 0 : _nodes.length);
        for (uint256 i = 0; i < validators.length; ++i) {
            (uint32 ip, uint16 port) = Ipv4Url.parse(_nodes[i].url);
            uint256 tlsKey = uint256(_nodes[i].tlsKey);
            validators[i] = Validator(ip, 0, port, _nodes[i].nodeAddress, 0, tlsKey, tlsKey);
        }
    }

    function _node(address nodeAddress) private view returns (Node storage) {
        uint256 partyId = _partyOf[nodeAddress];
        if (partyId == 0) revert UnknownNode(nodeAddress);
        return _nodes[partyId - 1];
    }

    function _checkEndpoint(string calldata url, string calldata meshHost, uint16 port) private pure {
        if (bytes(url).length == 0 || bytes(url).length > MAX_TEXT) revert BadText();
        if (bytes(meshHost).length == 0 || bytes(meshHost).length > MAX_TEXT) revert BadText();
        if (port == 0) revert ZeroPort();
    }

    function _claimUrl(string calldata url) private {
        bytes32 urlHash = keccak256(bytes(url));
        if (_urlTaken[urlHash]) revert DuplicateUrl(url);
        _urlTaken[urlHash] = true;
    }
}
