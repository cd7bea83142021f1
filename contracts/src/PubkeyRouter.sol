// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Staking} from "./Staking.sol";

/// @title PubkeyRouter: the public keys of the network
/// @notice Holds the network key, which all nodes register together, and a first-in-first-out pool of fresh keys, which
/// wait here for somebody to mint them.
/// @dev A batch of keys carries one signature of the network key, so the contract trusts no single node and no sender:
/// anybody may deliver a batch. Nothing about a key is ever changed or removed. Coordinates are stored without the
/// prefix; y = 0 means absent, as no point of the curve has it.
contract PubkeyRouter {
    struct Key {
        uint256 x;
        uint256 y;
    }

    /// @dev As existing clients decode it.
    struct RootKey {
        bytes pubkey;
        uint256 keyType;
    }

    /// @dev As existing clients decode it. `derivedKeyId` is always 0: no key is derived from another.
    struct PubkeyRoutingData {
        bytes pubkey;
        uint256 keyType;
        bytes32 derivedKeyId;
    }

    uint256 public constant KEY_TYPE_SECP256K1 = 2;
    bytes32 public constant KEY_BATCH_TYPE = keccak256("keyquorum.key-batch.v1");

    uint256 private constant FIELD = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;
    uint256 private constant PUBKEY_BYTES = 65;

    Staking public immutable staking;
    address public immutable pkpNft;

    /// @notice The address whose signature admits a batch; 0 until all nodes have agreed.
    address public networkAddress;
    /// @notice The number that the next batch must carry; the first is 1.
    uint64 public nextBatch = 1;
    uint64 private _poolHead;
    uint64 private _poolTail;

    Key private _networkKey;
    mapping(uint256 epoch => mapping(address nodeAddress => uint256 votedTokenId)) private _voteOf;
    mapping(uint256 epoch => mapping(uint256 votedTokenId => uint256)) private _votes;
    mapping(uint256 tokenId => Key) private _keys;
    mapping(uint256 position => uint256 tokenId) private _pool;

    /// @notice The minted key with this address, or 0.
    mapping(address ethAddress => uint256 tokenId) public ethAddressToPkpId;

    event NetworkKeyVote(address indexed nodeAddress, bytes pubkey);
    event RootKeySet(address stakingContract, RootKey rootKey);
    event KeysRegistered(uint64 indexed batch, uint256 count);
    event PubkeyRoutingDataSet(
        uint256 indexed tokenId, bytes pubkey, address stakingContract, uint256 keyType, bytes32 derivedKeyId
    );

    error NotAnActiveNode(address sender);
    error NetworkKeyIsFixed();
    error NetworkKeyMissing();
    error NotSignedByNetworkKey(address recovered);
    error WrongBatch(uint64 given, uint64 expected);
    error EmptyBatch();
    error BadPubkey();
    error DuplicateKey(uint256 tokenId);
    error OnlyPKPNFT();
    error PoolEmpty();
    error OtherKey(uint256 tokenId);

    constructor(Staking staking_, address pkpNft_) {
        staking = staking_;
        pkpNft = pkpNft_;
    }

    /// @notice A node names the network key. It is fixed once every node names the same one.
    /// @dev Unanimous: t nodes could certify keys of their own otherwise. A vote can be changed until then, and
    /// repeating it changes nothing, so a node that restarts may just vote again. Votes count in the epoch they were made
    /// in: when the owner of Staking starts over, they are gone.
    function registerNetworkKey(bytes calldata pubkey) external {
        if (!staking.isActiveNode(msg.sender)) revert NotAnActiveNode(msg.sender);
        if (networkAddress != address(0)) revert NetworkKeyIsFixed();
        (uint256 tokenId, Key memory key) = _parse(pubkey);

        uint256 epoch = staking.epoch();
        uint256 earlier = _voteOf[epoch][msg.sender];
        if (earlier == tokenId) return;
        if (earlier != 0) --_votes[epoch][earlier];
        _voteOf[epoch][msg.sender] = tokenId;
        uint256 votes = ++_votes[epoch][tokenId];
        emit NetworkKeyVote(msg.sender, pubkey);

        if (votes == staking.nodeCount()) {
            _networkKey = key;
            networkAddress = _ethAddress(key);
            emit RootKeySet(address(staking), RootKey(pubkey, KEY_TYPE_SECP256K1));
        }
    }

    /// @notice Add fresh keys to the pool, in order.
    /// @param keys Uncompressed points: 65 bytes, first byte 04
    /// @param batch Must be `nextBatch()`
    /// @param signature r, s, v of the network key over `batchDigest(keys, batch)`; s in the lower half
    function registerKeys(bytes[] calldata keys, uint64 batch, bytes calldata signature) external {
        if (networkAddress == address(0)) revert NetworkKeyMissing();
        if (batch != nextBatch) revert WrongBatch(batch, nextBatch);
        if (keys.length == 0) revert EmptyBatch();
        address recovered = ECDSA.recoverCalldata(batchDigest(keys, batch), signature);
        if (recovered != networkAddress) revert NotSignedByNetworkKey(recovered);

        ++nextBatch;
        uint64 tail = _poolTail;
        for (uint256 i = 0; i < keys.length; ++i) {
            (uint256 tokenId, Key memory key) = _parse(keys[i]);
            // The network key signs certificates: as a PKP it would be at the command of whoever minted it.
            if (_keys[tokenId].y != 0 || key.x == _networkKey.x) revert DuplicateKey(tokenId);
            _keys[tokenId] = key;
            _pool[tail++] = tokenId;
        }
        _poolTail = tail;
        emit KeysRegistered(batch, keys.length);
    }

    /// @notice Take the oldest key out of the pool; only PKPNFT, which mints it.
    /// @param expected The key that it must be, or 0 for any: after a reorganisation another may be the oldest
    function take(uint256 expected) external returns (uint256 tokenId, bytes memory pubkey) {
        if (msg.sender != pkpNft) revert OnlyPKPNFT();
        uint64 head = _poolHead;
        if (head == _poolTail) revert PoolEmpty();
        tokenId = _pool[head];
        if (expected != 0 && expected != tokenId) revert OtherKey(tokenId);
        delete _pool[head];
        _poolHead = head + 1;
        Key memory key = _keys[tokenId];
        ethAddressToPkpId[_ethAddress(key)] = tokenId;
        pubkey = _pubkey(key);
        emit PubkeyRoutingDataSet(tokenId, pubkey, address(staking), KEY_TYPE_SECP256K1, 0);
    }

    /// @notice What the network key signs to admit a batch.
    function batchDigest(bytes[] calldata keys, uint64 batch) public view returns (bytes32) {
        return keccak256(
            abi.encode(
                KEY_BATCH_TYPE, block.chainid, address(this), staking.epoch(), batch, keccak256(_concatenate(keys))
            )
        );
    }

    function poolSize() external view returns (uint256) {
        return _poolTail - _poolHead;
    }

    /// @notice The key that the next mint gets, or 0.
    function nextKey() external view returns (uint256 tokenId) {
        return _pool[_poolHead];
    }

    /// @notice The network key as 65 bytes; empty until it is fixed.
    function networkKey() external view returns (bytes memory) {
        return _networkKey.y == 0 ? bytes("") : _pubkey(_networkKey);
    }

    /// @notice The key that a node has voted for, as its token id; 0 for none.
    function networkKeyVote(address nodeAddress) external view returns (uint256) {
        return _voteOf[staking.epoch()][nodeAddress];
    }

    /// @notice Whether the network has certified this key, minted or not.
    function isRegistered(uint256 tokenId) public view returns (bool) {
        return _keys[tokenId].y != 0;
    }

    /// @notice Whether this key has been minted.
    function isRouted(uint256 tokenId) public view returns (bool) {
        return isRegistered(tokenId) && ethAddressToPkpId[_ethAddress(_keys[tokenId])] == tokenId;
    }

    /// @notice The 65 bytes of a registered key; empty for any other number.
    function getPubkey(uint256 tokenId) public view returns (bytes memory) {
        return isRegistered(tokenId) ? _pubkey(_keys[tokenId]) : bytes("");
    }

    /// @notice The Ethereum address of a registered key; 0 for any other number.
    function getEthAddress(uint256 tokenId) external view returns (address) {
        return isRegistered(tokenId) ? _ethAddress(_keys[tokenId]) : address(0);
    }

    /// @notice Public key and type of a minted key; all empty for any other number.
    function getRoutingData(uint256 tokenId) external view returns (PubkeyRoutingData memory data) {
        if (isRouted(tokenId)) data = PubkeyRoutingData(getPubkey(tokenId), KEY_TYPE_SECP256K1, 0);
    }

    /// @notice The same under the name of existing clients.
    function pubkeys(uint256 tokenId) external view returns (bytes memory pubkey, uint256 keyType, bytes32 derivedKeyId) {
        if (isRouted(tokenId)) return (getPubkey(tokenId), KEY_TYPE_SECP256K1, 0);
    }

    function getPkpNftAddress() external view returns (address) {
        return pkpNft;
    }

    /// @notice The Ethereum address of any public key: 65 bytes, or the last 64 of them.
    function deriveEthAddressFromPubkey(bytes calldata pubkey) external view returns (address) {
        if (pubkey.length == PUBKEY_BYTES - 1) return this.deriveEthAddressFromPubkey(bytes.concat(bytes1(0x04), pubkey));
        (, Key memory key) = _parse(pubkey);
        return _ethAddress(key);
    }

    /// @dev Exactly 65 bytes, prefix 04, coordinates reduced, on the curve: one key has one encoding and one token id.
    function _parse(bytes calldata pubkey) private pure returns (uint256 tokenId, Key memory key) {
        if (pubkey.length != PUBKEY_BYTES || pubkey[0] != 0x04) revert BadPubkey();
        key.x = uint256(bytes32(pubkey[1:33]));
        key.y = uint256(bytes32(pubkey[33:65]));
        if (key.x >= FIELD || key.y >= FIELD) revert BadPubkey();
        uint256 cube = mulmod(key.x, mulmod(key.x, key.x, FIELD), FIELD);
        if (mulmod(key.y, key.y, FIELD) != addmod(cube, 7, FIELD)) revert BadPubkey();
        tokenId = uint256(keccak256(pubkey));
    }

    function _pubkey(Key memory key) private pure returns (bytes memory) {
        return abi.encodePacked(bytes1(0x04), key.x, key.y);
    }

    function _ethAddress(Key memory key) private pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(key.x, key.y)))));
    }

    /// @dev Each key must have 65 bytes here already, or two batches could have one digest.
    function _concatenate(bytes[] calldata keys) private pure returns (bytes memory joined) {
        joined = new bytes(keys.length * PUBKEY_BYTES);
        for (uint256 i = 0; i < keys.length; ++i) {
            bytes calldata pubkey = keys[i];
            if (pubkey.length != PUBKEY_BYTES) revert BadPubkey();
            assembly ("memory-safe") {
                calldatacopy(add(add(joined, 32), mul(i, PUBKEY_BYTES)), pubkey.offset, PUBKEY_BYTES)
            }
        }
    }
}
