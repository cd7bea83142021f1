// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {PKPNFT} from "./PKPNFT.sol";
import {PubkeyRouter} from "./PubkeyRouter.sol";

/// @title PKPPermissions: who else may use a key, and for what
/// @notice The owner of a token permits authentication methods (an address, a program, a passkey, an account somewhere)
/// and gives each of them scopes. Nodes read it before they sign.
/// @dev A grant belongs to (token, grant epoch, method). The epoch changes with the owner, so grants never outlive the
/// ownership under which they were made. A method without scopes identifies its user and may sign nothing. What the
/// owner may do by owning is for the nodes to say; this contract only records what has been granted, to the owner's
/// address as to any other. `getAuthMethodId` is the internal key; ids are the bytes that existing clients use.
contract PKPPermissions {
    using EnumerableSet for EnumerableSet.UintSet;

    struct AuthMethod {
        uint256 authMethodType;
        bytes id;
        bytes userPubkey;
    }

    struct Identity {
        uint256 authMethodType;
        bytes id;
    }

    /// @dev What one owner has granted on one token.
    struct Grants {
        EnumerableSet.UintSet methods;
        mapping(uint256 methodId => uint256 bitmap) scopes;
        mapping(uint256 methodId => bytes) userPubkey;
    }

    uint256 public constant METHOD_ADDRESS = 1;
    uint256 public constant METHOD_ACTION = 2;
    uint256 public constant MAX_ID_BYTES = 256;
    uint256 public constant MAX_PUBKEY_BYTES = 1024;

    PKPNFT public immutable pkpNft;
    PubkeyRouter public immutable router;
    address public immutable helper;

    mapping(uint256 tokenId => mapping(uint64 grantEpoch => Grants)) private _grants;
    /// @dev A method's type and id, kept once for all tokens: the key is their hash, so nobody can write another's.
    mapping(uint256 methodId => Identity) private _identities;
    /// @dev Tokens on which the method was permitted at some time; readers filter out those where it no longer is.
    mapping(uint256 methodId => EnumerableSet.UintSet) private _tokensOf;

    event PermittedAuthMethodAdded(uint256 indexed tokenId, uint256 authMethodType, bytes id, bytes userPubkey);
    event PermittedAuthMethodRemoved(uint256 indexed tokenId, uint256 authMethodType, bytes id);
    event PermittedAuthMethodScopeAdded(uint256 indexed tokenId, uint256 authMethodType, bytes id, uint256 scopeId);
    event PermittedAuthMethodScopeRemoved(uint256 indexed tokenId, uint256 authMethodType, bytes id, uint256 scopeId);

    error OnlyOwnerOf(uint256 tokenId);
    error OnlyWhileMinting(uint256 tokenId);
    error BadAuthMethod();
    error BadScope(uint256 scopeId);
    error AlreadyPermitted();
    error NotPermitted();
    error LengthMismatch();

    modifier onlyOwnerOf(uint256 tokenId) {
        (address owner,) = pkpNft.ownership(tokenId);
        if (msg.sender != owner) revert OnlyOwnerOf(tokenId);
        _;
    }

    constructor(PKPNFT pkpNft_, PubkeyRouter router_, address helper_) {
        pkpNft = pkpNft_;
        router = router_;
        helper = helper_;
    }

    // ------------------------------------------------------------------------------------------------------- writing

    /// @notice Permit a method, with scopes. Reverts if it is permitted already: scopes are then added one by one.
    function addPermittedAuthMethod(uint256 tokenId, AuthMethod memory authMethod, uint256[] calldata scopes)
        external
        onlyOwnerOf(tokenId)
    {
        _add(tokenId, authMethod, scopes);
    }

    /// @notice Withdraw a method and all its scopes. Reverts if it is not permitted, so that a mistyped id is noticed.
    function removePermittedAuthMethod(uint256 tokenId, uint256 authMethodType, bytes calldata id)
        external
        onlyOwnerOf(tokenId)
    {
        _remove(tokenId, authMethodType, id);
    }

    function addPermittedAuthMethodScope(uint256 tokenId, uint256 authMethodType, bytes calldata id, uint256 scopeId)
        external
        onlyOwnerOf(tokenId)
    {
        (Grants storage grants, uint256 methodId) = _permitted(tokenId, authMethodType, id);
        _addScope(grants, methodId, tokenId, authMethodType, id, scopeId);
    }

    /// @notice Withdraw one scope; does nothing if the method does not have it.
    function removePermittedAuthMethodScope(uint256 tokenId, uint256 authMethodType, bytes calldata id, uint256 scopeId)
        external
        onlyOwnerOf(tokenId)
    {
        (Grants storage grants, uint256 methodId) = _permitted(tokenId, authMethodType, id);
        uint256 bit = _bit(scopeId);
        if (grants.scopes[methodId] & bit == 0) return;
        grants.scopes[methodId] &= ~bit;
        emit PermittedAuthMethodScopeRemoved(tokenId, authMethodType, id, scopeId);
    }

    function addPermittedAction(uint256 tokenId, bytes calldata ipfsCID, uint256[] calldata scopes)
        external
        onlyOwnerOf(tokenId)
    {
        _add(tokenId, AuthMethod(METHOD_ACTION, ipfsCID, ""), scopes);
    }

    function removePermittedAction(uint256 tokenId, bytes calldata ipfsCID) external onlyOwnerOf(tokenId) {
        _remove(tokenId, METHOD_ACTION, ipfsCID);
    }

    function addPermittedAddress(uint256 tokenId, address user, uint256[] calldata scopes)
        external
        onlyOwnerOf(tokenId)
    {
        _add(tokenId, AuthMethod(METHOD_ADDRESS, abi.encodePacked(user), ""), scopes);
    }

    function removePermittedAddress(uint256 tokenId, address user) external onlyOwnerOf(tokenId) {
        _remove(tokenId, METHOD_ADDRESS, abi.encodePacked(user));
    }

    /// @notice Add methods, then remove methods, in one transaction.
    function batchAddRemoveAuthMethods(
        uint256 tokenId,
        uint256[] memory permittedAuthMethodTypesToAdd,
        bytes[] memory permittedAuthMethodIdsToAdd,
        bytes[] memory permittedAuthMethodPubkeysToAdd,
        uint256[][] memory permittedAuthMethodScopesToAdd,
        uint256[] memory permittedAuthMethodTypesToRemove,
        bytes[] memory permittedAuthMethodIdsToRemove
    ) external onlyOwnerOf(tokenId) {
        uint256 added = permittedAuthMethodTypesToAdd.length;
        if (
            permittedAuthMethodIdsToAdd.length != added || permittedAuthMethodPubkeysToAdd.length != added
                || permittedAuthMethodScopesToAdd.length != added
                || permittedAuthMethodIdsToRemove.length != permittedAuthMethodTypesToRemove.length
        ) revert LengthMismatch();
        for (uint256 i = 0; i < added; ++i) {
            AuthMethod memory method = AuthMethod(
                permittedAuthMethodTypesToAdd[i], permittedAuthMethodIdsToAdd[i], permittedAuthMethodPubkeysToAdd[i]
            );
            _add(tokenId, method, permittedAuthMethodScopesToAdd[i]);
        }
        for (uint256 i = 0; i < permittedAuthMethodTypesToRemove.length; ++i) {
            _remove(tokenId, permittedAuthMethodTypesToRemove[i], permittedAuthMethodIdsToRemove[i]);
        }
    }

    /// @notice Grants that belong to a mint, made for the new owner; only the helper, only on the token being minted.
    function grantAtMint(uint256 tokenId, AuthMethod[] memory methods, uint256[][] memory scopes) external {
        if (msg.sender != helper || pkpNft.minting() != tokenId) revert OnlyWhileMinting(tokenId);
        if (methods.length != scopes.length) revert LengthMismatch();
        for (uint256 i = 0; i < methods.length; ++i) {
            _add(tokenId, methods[i], scopes[i]);
        }
    }

    // ------------------------------------------------------------------------------------------------------- reading

    /// @notice All that a node needs to judge one request, in one call. Never reverts.
    /// @return owner 0 if the token does not exist
    /// @return permitted Whether the present owner has permitted the method
    /// @return scopes Bit s is set if the method has been granted scope s
    /// @return grantEpoch Changes whenever the owner changes; 0 if the token was never minted
    /// @return pubkey 65 bytes, or empty if the network has not certified such a key
    function authorisation(uint256 tokenId, uint256 authMethodType, bytes calldata id)
        external
        view
        returns (address owner, bool permitted, uint256 scopes, uint64 grantEpoch, bytes memory pubkey)
    {
        (owner, grantEpoch) = pkpNft.ownership(tokenId);
        Grants storage grants = _grants[tokenId][grantEpoch];
        uint256 methodId = getAuthMethodId(authMethodType, id);
        permitted = owner != address(0) && grants.methods.contains(methodId);
        scopes = permitted ? grants.scopes[methodId] : 0;
        pubkey = router.getPubkey(tokenId);
    }

    function getAuthMethodId(uint256 authMethodType, bytes memory id) public pure returns (uint256) {
        return uint256(keccak256(abi.encode(authMethodType, id)));
    }

    function getPermittedAuthMethods(uint256 tokenId) external view returns (AuthMethod[] memory methods) {
        Grants storage grants = _current(tokenId);
        methods = new AuthMethod[](grants.methods.length());
        for (uint256 i = 0; i < methods.length; ++i) {
            uint256 methodId = grants.methods.at(i);
            Identity storage identity = _identities[methodId];
            methods[i] = AuthMethod(identity.authMethodType, identity.id, grants.userPubkey[methodId]);
        }
    }

    /// @notice For each scope below `maxScopeId` (at most 256) whether the method has it.
    function getPermittedAuthMethodScopes(
        uint256 tokenId,
        uint256 authMethodType,
        bytes calldata id,
        uint256 maxScopeId
    ) external view returns (bool[] memory present) {
        if (maxScopeId > 256) revert BadScope(maxScopeId);
        uint256 bitmap = _current(tokenId).scopes[getAuthMethodId(authMethodType, id)];
        present = new bool[](maxScopeId);
        for (uint256 i = 0; i < maxScopeId; ++i) {
            present[i] = bitmap & (1 << i) != 0;
        }
    }

    function getPermittedActions(uint256 tokenId) external view returns (bytes[] memory) {
        return _idsOfType(_current(tokenId), METHOD_ACTION);
    }

    /// @notice The owner, then the permitted addresses; the owner appears twice if it is permitted as well.
    function getPermittedAddresses(uint256 tokenId) external view returns (address[] memory addresses) {
        (address owner,) = pkpNft.ownership(tokenId);
        if (owner == address(0)) return addresses;
        bytes[] memory ids = _idsOfType(_current(tokenId), METHOD_ADDRESS);
        addresses = new address[](ids.length + 1);
        addresses[0] = owner;
        for (uint256 i = 0; i < ids.length; ++i) {
            addresses[i + 1] = address(bytes20(ids[i]));
        }
    }

    function isPermittedAuthMethod(uint256 tokenId, uint256 authMethodType, bytes memory id)
        public
        view
        returns (bool)
    {
        return _current(tokenId).methods.contains(getAuthMethodId(authMethodType, id));
    }

    function isPermittedAuthMethodScopePresent(
        uint256 tokenId,
        uint256 authMethodType,
        bytes calldata id,
        uint256 scopeId
    ) external view returns (bool) {
        return _current(tokenId).scopes[getAuthMethodId(authMethodType, id)] & _bit(scopeId) != 0;
    }

    function isPermittedAction(uint256 tokenId, bytes calldata ipfsCID) external view returns (bool) {
        return isPermittedAuthMethod(tokenId, METHOD_ACTION, ipfsCID);
    }

    /// @notice Whether the address owns the token or is permitted on it.
    function isPermittedAddress(uint256 tokenId, address user) external view returns (bool) {
        (address owner,) = pkpNft.ownership(tokenId);
        if (owner != address(0) && owner == user) return true;
        return isPermittedAuthMethod(tokenId, METHOD_ADDRESS, abi.encodePacked(user));
    }

    /// @notice The public key (a passkey's, for example) that the present owner has filed with the method.
    /// @dev By token: one filed for all tokens would let whoever writes first choose the passkey of everybody else.
    function getUserPubkeyForAuthMethod(uint256 tokenId, uint256 authMethodType, bytes calldata id)
        external
        view
        returns (bytes memory)
    {
        return _current(tokenId).userPubkey[getAuthMethodId(authMethodType, id)];
    }

    /// @notice The tokens on which a method is permitted now. Anybody can permit anybody's method on a key of their
    /// own, so being listed proves nothing about who controls the key.
    function getTokenIdsForAuthMethod(uint256 authMethodType, bytes calldata id)
        public
        view
        returns (uint256[] memory tokenIds)
    {
        uint256 methodId = getAuthMethodId(authMethodType, id);
        tokenIds = _tokensOf[methodId].values();
        uint256 kept = 0;
        for (uint256 i = 0; i < tokenIds.length; ++i) {
            if (_current(tokenIds[i]).methods.contains(methodId)) tokenIds[kept++] = tokenIds[i];
        }
        assembly ("memory-safe") {
            mstore(tokenIds, kept)
        }
    }

    function getPKPPubKeysByAuthMethod(uint256 authMethodType, bytes calldata id)
        external
        view
        returns (bytes[] memory pubkeys)
    {
        uint256[] memory tokenIds = getTokenIdsForAuthMethod(authMethodType, id);
        pubkeys = new bytes[](tokenIds.length);
        for (uint256 i = 0; i < tokenIds.length; ++i) {
            pubkeys[i] = router.getPubkey(tokenIds[i]);
        }
    }

    // ------------------------------------------------------------------------------------------------------ internals

    function _current(uint256 tokenId) private view returns (Grants storage) {
        (, uint64 grantEpoch) = pkpNft.ownership(tokenId);
        return _grants[tokenId][grantEpoch];
    }

    function _permitted(uint256 tokenId, uint256 authMethodType, bytes memory id)
        private
        view
        returns (Grants storage grants, uint256 methodId)
    {
        grants = _current(tokenId);
        methodId = getAuthMethodId(authMethodType, id);
        if (!grants.methods.contains(methodId)) revert NotPermitted();
    }

    function _add(uint256 tokenId, AuthMethod memory method, uint256[] memory scopes) private {
        _checkMethod(method);
        uint256 methodId = getAuthMethodId(method.authMethodType, method.id);
        Grants storage grants = _current(tokenId);
        if (!grants.methods.add(methodId)) revert AlreadyPermitted();
        if (method.userPubkey.length != 0) grants.userPubkey[methodId] = method.userPubkey;
        if (_identities[methodId].authMethodType == 0) {
            _identities[methodId] = Identity(method.authMethodType, method.id);
        }
        _tokensOf[methodId].add(tokenId);
        emit PermittedAuthMethodAdded(tokenId, method.authMethodType, method.id, method.userPubkey);
        for (uint256 i = 0; i < scopes.length; ++i) {
            _addScope(grants, methodId, tokenId, method.authMethodType, method.id, scopes[i]);
        }
    }

    function _addScope(
        Grants storage grants,
        uint256 methodId,
        uint256 tokenId,
        uint256 authMethodType,
        bytes memory id,
        uint256 scopeId
    ) private {
        uint256 bit = _bit(scopeId);
        if (grants.scopes[methodId] & bit != 0) return;
        grants.scopes[methodId] |= bit;
        emit PermittedAuthMethodScopeAdded(tokenId, authMethodType, id, scopeId);
    }

    function _remove(uint256 tokenId, uint256 authMethodType, bytes memory id) private {
        (Grants storage grants, uint256 methodId) = _permitted(tokenId, authMethodType, id);
        grants.methods.remove(methodId);
        delete grants.scopes[methodId];
        delete grants.userPubkey[methodId];
        _tokensOf[methodId].remove(tokenId);
        emit PermittedAuthMethodRemoved(tokenId, authMethodType, id);
    }

    function _checkMethod(AuthMethod memory method) private pure {
        if (method.authMethodType == 0) revert BadAuthMethod();
        if (method.id.length == 0 || method.id.length > MAX_ID_BYTES) revert BadAuthMethod();
        if (method.userPubkey.length > MAX_PUBKEY_BYTES) revert BadAuthMethod();
        // Address 0 is what a failed signature recovery yields.
        if (method.authMethodType == METHOD_ADDRESS) {
            if (method.id.length != 20 || bytes20(method.id) == 0) revert BadAuthMethod();
        }
    }

    /// @dev Scopes are 1 to 255. 0 is refused: it is what an unset variable holds.
    function _bit(uint256 scopeId) private pure returns (uint256) {
        if (scopeId == 0 || scopeId > 255) revert BadScope(scopeId);
        return 1 << scopeId;
    }

    function _idsOfType(Grants storage grants, uint256 authMethodType) private view returns (bytes[] memory ids) {
        uint256 count = grants.methods.length();
        ids = new bytes[](count);
        uint256 kept = 0;
        for (uint256 i = 0; i < count; ++i) {
            Identity storage identity = _identities[grants.methods.at(i)];
            if (identity.authMethodType == authMethodType) ids[kept++] = identity.id;
        }
        assembly ("memory-safe") {
            mstore(ids, kept)
        }
    }
}
