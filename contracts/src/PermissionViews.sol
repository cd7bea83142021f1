// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {Change, ChangeKind, PendingChanges} from "./PendingChanges.sol";
import {PermissionStore} from "./PermissionStore.sol";
import {PKPNFT} from "./PKPNFT.sol";
import {PubkeyRouter} from "./PubkeyRouter.sol";

/// @title PermissionViews: what may be done with a key at this block's time
/// @dev Only what is active counts; what still waits is in `getPendingChanges` and nowhere else.
abstract contract PermissionViews is PermissionStore {
    using EnumerableSet for EnumerableSet.UintSet;
    using PendingChanges for Change;

    /// @dev `authMethodType`, `id`, `userPubkey` and `scopes` (bits) are set for methods and scopes, `delay` (seconds) for
    /// a lower delay, `to` (0: burning) for a transfer, which is listed until it may no longer be made; none for renouncing.
    struct PendingChange {
        uint256 changeId;
        ChangeKind kind;
        uint256 activeAt;
        uint256 authMethodType;
        bytes id;
        bytes userPubkey;
        uint256 scopes;
        uint256 delay;
        address to;
    }

    PubkeyRouter public immutable router;

    error TransferNotAnnounced(uint256 tokenId, address to);

    constructor(PKPNFT pkpNft_, PubkeyRouter router_) PermissionStore(pkpNft_) {
        router = router_;
    }

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
        if (owner != address(0)) {
            (permitted, scopes) = _granted(grants, _waiting(grants), getAuthMethodId(authMethodType, id));
        }
        pubkey = router.getPubkey(tokenId);
    }

    // --------------------------------------------------------------------------------------------------------- delay

    /// @notice How many seconds a loosening change of this token waits, announced now.
    function delayOf(uint256 tokenId) external view returns (uint256) {
        return _delay(_current(tokenId));
    }

    /// @notice What has been announced and does not count yet, and the transfer that may be made now; in no order.
    function getPendingChanges(uint256 tokenId) external view returns (PendingChange[] memory pending) {
        Grants storage grants = _current(tokenId);
        Change[] memory changes = grants.changes;
        pending = new PendingChange[](changes.length);
        uint256 kept = 0;
        for (uint256 i = 0; i < changes.length; ++i) {
            if (changes[i].waits() || changes[i].isOpen()) pending[kept++] = _describe(grants, changes[i]);
        }
        assembly ("memory-safe") {
            mstore(pending, kept)
        }
    }

    /// @notice The announced transfer: receiver (0: burning), and the times between which it may be made; 0, 0, 0 for none.
    function pendingTransfer(uint256 tokenId) external view returns (address to, uint256 activeAt, uint256 until) {
        Change[] memory changes = _current(tokenId).changes;
        for (uint256 i = 0; i < changes.length; ++i) {
            if (changes[i].kind != ChangeKind.Transfer) continue;
            if (!changes[i].waits() && !changes[i].isOpen()) continue;
            activeAt = changes[i].activeAt;
            return (address(uint160(changes[i].subject)), activeAt, activeAt + PendingChanges.TRANSFER_WINDOW);
        }
    }

    /// @notice Reverts unless a token in this grant epoch may go to `to` (0: be burned) now. PKPNFT asks before it moves one.
    /// @dev Never to the key's own address: nobody would have a grant there, and nobody could make one.
    function checkMove(uint256 tokenId, uint64 grantEpoch, address to) external view {
        if (to == router.getEthAddress(tokenId)) revert LastManager(tokenId);
        Grants storage grants = _grants[tokenId][grantEpoch];
        if (_delay(grants) == 0) return;
        Change[] memory changes = grants.changes;
        for (uint256 i = 0; i < changes.length; ++i) {
            if (changes[i].isOpen() && changes[i].subject == uint160(to)) return;
        }
        revert TransferNotAnnounced(tokenId, to);
    }

    // ------------------------------------------------------------------------------------------------------- methods

    function getPermittedAuthMethods(uint256 tokenId) external view returns (AuthMethod[] memory methods) {
        (methods,) = getPermittedAuthMethodsPage(tokenId, 0, type(uint256).max);
    }

    /// @notice How many places `getPermittedAuthMethodsPage` has; methods that do not count yet have one too.
    function countPermittedAuthMethods(uint256 tokenId) external view returns (uint256) {
        return _current(tokenId).methods.length();
    }

    /// @notice The methods at the places from `offset` on, at most `limit`, with their scopes as bits; those that count now.
    function getPermittedAuthMethodsPage(uint256 tokenId, uint256 offset, uint256 limit)
        public
        view
        returns (AuthMethod[] memory methods, uint256[] memory scopes)
    {
        Grants storage grants = _current(tokenId);
        Change[] memory waiting = _waiting(grants);
        uint256 count = _pageSize(grants.methods.length(), offset, limit);
        (methods, scopes) = (new AuthMethod[](count), new uint256[](count));
        uint256 kept = 0;
        for (uint256 i = 0; i < count; ++i) {
            uint256 methodId = grants.methods.at(offset + i);
            (bool permitted, uint256 bitmap) = _granted(grants, waiting, methodId);
            if (!permitted) continue;
            Identity storage identity = _identities[methodId];
            methods[kept] = AuthMethod(identity.authMethodType, identity.id, grants.userPubkey[methodId]);
            scopes[kept++] = bitmap;
        }
        assembly ("memory-safe") {
            mstore(methods, kept)
            mstore(scopes, kept)
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
        (, uint256 bitmap) = _grantedNow(tokenId, getAuthMethodId(authMethodType, id));
        present = new bool[](maxScopeId);
        for (uint256 i = 0; i < maxScopeId; ++i) {
            present[i] = bitmap & (1 << i) != 0;
        }
    }

    function getPermittedActions(uint256 tokenId) external view returns (bytes[] memory) {
        return _idsOfType(tokenId, METHOD_ACTION);
    }

    /// @notice The owner, then the permitted addresses; the owner appears twice if it is permitted as well.
    function getPermittedAddresses(uint256 tokenId) external view returns (address[] memory addresses) {
        (address owner,) = pkpNft.ownership(tokenId);
        if (owner == address(0)) return addresses;
        bytes[] memory ids = _idsOfType(tokenId, METHOD_ADDRESS);
        addresses = new address[](ids.length + 1);
        addresses[0] = owner;
        for (uint256 i = 0; i < ids.length; ++i) {
            addresses[i + 1] = address(bytes20(ids[i]));
        }
    }

    function isPermittedAuthMethod(uint256 tokenId, uint256 authMethodType, bytes memory id)
        public
        view
        returns (bool permitted)
    {
        (permitted,) = _grantedNow(tokenId, getAuthMethodId(authMethodType, id));
    }

    function isPermittedAuthMethodScopePresent(
        uint256 tokenId,
        uint256 authMethodType,
        bytes calldata id,
        uint256 scopeId
    ) external view returns (bool) {
        (, uint256 bitmap) = _grantedNow(tokenId, getAuthMethodId(authMethodType, id));
        return scopeId < 256 && bitmap & (1 << scopeId) != 0;
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
        uint256 methodId = getAuthMethodId(authMethodType, id);
        (bool permitted,) = _grantedNow(tokenId, methodId);
        return permitted ? _current(tokenId).userPubkey[methodId] : bytes("");
    }

    /// @notice The tokens on which a method is permitted now. Anybody can permit anybody's method on a key of their
    /// own, so being listed proves nothing about who controls the key.
    function getTokenIdsForAuthMethod(uint256 authMethodType, bytes calldata id)
        external
        view
        returns (uint256[] memory)
    {
        return getTokenIdsForAuthMethodPage(authMethodType, id, 0, type(uint256).max);
    }

    /// @notice How many places the pages below have; tokens on which the method is not permitted any more have one too.
    function countTokenIdsForAuthMethod(uint256 authMethodType, bytes calldata id) external view returns (uint256) {
        return _tokensOf[getAuthMethodId(authMethodType, id)].length();
    }

    /// @notice The tokens at the places from `offset` on, at most `limit`; those on which the method is permitted now.
    function getTokenIdsForAuthMethodPage(uint256 authMethodType, bytes calldata id, uint256 offset, uint256 limit)
        public
        view
        returns (uint256[] memory tokenIds)
    {
        uint256 methodId = getAuthMethodId(authMethodType, id);
        uint256 count = _pageSize(_tokensOf[methodId].length(), offset, limit);
        tokenIds = new uint256[](count);
        uint256 kept = 0;
        for (uint256 i = 0; i < count; ++i) {
            uint256 tokenId = _tokensOf[methodId].at(offset + i);
            (bool permitted,) = _grantedNow(tokenId, methodId);
            if (permitted) tokenIds[kept++] = tokenId;
        }
        assembly ("memory-safe") {
            mstore(tokenIds, kept)
        }
    }

    function getPKPPubKeysByAuthMethod(uint256 authMethodType, bytes calldata id)
        external
        view
        returns (bytes[] memory)
    {
        return getPKPPubKeysByAuthMethodPage(authMethodType, id, 0, type(uint256).max);
    }

    /// @notice The public keys of the tokens on the same page of `getTokenIdsForAuthMethodPage`.
    function getPKPPubKeysByAuthMethodPage(uint256 authMethodType, bytes calldata id, uint256 offset, uint256 limit)
        public
        view
        returns (bytes[] memory pubkeys)
    {
        uint256[] memory tokenIds = getTokenIdsForAuthMethodPage(authMethodType, id, offset, limit);
        pubkeys = new bytes[](tokenIds.length);
        for (uint256 i = 0; i < tokenIds.length; ++i) {
            pubkeys[i] = router.getPubkey(tokenIds[i]);
        }
    }

    // --------------------------------------------------------------------------------------- names of existing clients

    function getPubkey(uint256 tokenId) external view returns (bytes memory) {
        return router.getPubkey(tokenId);
    }

    function getEthAddress(uint256 tokenId) external view returns (address) {
        return router.getEthAddress(tokenId);
    }

    function getPkpNftAddress() external view returns (address) {
        return address(pkpNft);
    }

    function getRouterAddress() external view returns (address) {
        return address(router);
    }

    // ------------------------------------------------------------------------------------------------------ internals

    function _grantedNow(uint256 tokenId, uint256 methodId) private view returns (bool permitted, uint256 scopes) {
        Grants storage grants = _current(tokenId);
        return _granted(grants, _waiting(grants), methodId);
    }

    function _pageSize(uint256 length, uint256 offset, uint256 limit) private pure returns (uint256) {
        return offset < length ? Math.min(limit, length - offset) : 0;
    }

    function _idsOfType(uint256 tokenId, uint256 authMethodType) private view returns (bytes[] memory ids) {
        (AuthMethod[] memory methods,) = getPermittedAuthMethodsPage(tokenId, 0, type(uint256).max);
        ids = new bytes[](methods.length);
        uint256 kept = 0;
        for (uint256 i = 0; i < methods.length; ++i) {
            if (methods[i].authMethodType == authMethodType) ids[kept++] = methods[i].id;
        }
        assembly ("memory-safe") {
            mstore(ids, kept)
        }
    }

    function _describe(Grants storage grants, Change memory change) private view returns (PendingChange memory shown) {
        (shown.changeId, shown.kind, shown.activeAt) = (change.id, change.kind, change.activeAt);
        if (change.kind == ChangeKind.LowerDelay) {
            shown.delay = change.subject;
        } else if (change.kind == ChangeKind.Transfer) {
            shown.to = address(uint160(change.subject));
        } else if (change.kind != ChangeKind.Renounce) {
            Identity storage method = _identities[change.subject];
            (shown.authMethodType, shown.id) = (method.authMethodType, method.id);
            shown.userPubkey = grants.userPubkey[change.subject];
            shown.scopes = change.kind == ChangeKind.AddScope ? 1 << change.scopeId : grants.scopes[change.subject];
        }
    }
}
