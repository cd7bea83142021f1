// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {Change, ChangeKind, PendingChanges} from "./PendingChanges.sol";
import {PKPNFT} from "./PKPNFT.sol";

/// @title PermissionStore: the grants of every token, and the rules by which they change
/// @dev A grant belongs to (token, grant epoch, method). The epoch changes with the owner, so neither grants nor delay
/// nor announcements outlive the ownership under which they were made. What is recorded here counts from now on, except
/// what still waits in `changes`. Everything that loosens goes through `_announce` when the token has a delay.
abstract contract PermissionStore {
    using EnumerableSet for EnumerableSet.UintSet;
    using PendingChanges for Change;
    using PendingChanges for Change[];

    struct AuthMethod {
        uint256 authMethodType;
        bytes id;
        bytes userPubkey;
    }

    struct Identity {
        uint256 authMethodType;
        bytes id;
    }

    /// @dev What one owner has granted on one token. `delay` in seconds; `announced` and `executed` only count up.
    /// `managers` is the number of recorded methods that are a way in (`_isWayIn`) and have the scope to manage;
    /// `renounced` allows to remove the last of them from a key that owns itself.
    struct Grants {
        EnumerableSet.UintSet methods;
        mapping(uint256 methodId => uint256 bitmap) scopes;
        mapping(uint256 methodId => bytes) userPubkey;
        uint64 delay;
        uint64 announced;
        uint32 executed;
        uint32 managers;
        bool renounced;
        Change[] changes;
    }

    uint256 public constant METHOD_ADDRESS = 1;
    uint256 public constant METHOD_ACTION = 2;
    uint256 public constant SCOPE_MANAGE = 6;
    uint256 public constant MAX_ID_BYTES = 256;
    uint256 public constant MAX_PUBKEY_BYTES = 1024;
    /// @notice The longest delay, in seconds: a slip or a thief must not be able to freeze a key for ever.
    uint256 public constant MAX_DELAY = 30 days;

    PKPNFT public immutable pkpNft;

    mapping(uint256 tokenId => mapping(uint64 grantEpoch => Grants)) internal _grants;
    /// @dev A method's type and id, kept once for all tokens: the key is their hash, so nobody can write another's.
    mapping(uint256 methodId => Identity) internal _identities;
    /// @dev Tokens on which the method was permitted at some time; readers filter out those where it no longer is.
    mapping(uint256 methodId => EnumerableSet.UintSet) internal _tokensOf;

    event PermittedAuthMethodAdded(uint256 indexed tokenId, uint256 authMethodType, bytes id, bytes userPubkey);
    event PermittedAuthMethodRemoved(uint256 indexed tokenId, uint256 authMethodType, bytes id);
    event PermittedAuthMethodScopeAdded(uint256 indexed tokenId, uint256 authMethodType, bytes id, uint256 scopeId);
    event PermittedAuthMethodScopeRemoved(uint256 indexed tokenId, uint256 authMethodType, bytes id, uint256 scopeId);
    event ChangeAnnounced(
        uint256 indexed tokenId, uint256 indexed changeId, ChangeKind kind, uint256 subject, uint256 activeAt
    );
    event ChangeCancelled(uint256 indexed tokenId, uint256 indexed changeId);
    event DelayRaised(uint256 indexed tokenId, uint256 delay);
    event KeyRenounced(uint256 indexed tokenId);

    error BadAuthMethod();
    error BadScope(uint256 scopeId);
    error AlreadyPermitted();
    error NotPermitted();
    error NotPending(uint256 changeId);
    error DelayTooLong(uint256 delay);
    error NothingToWaitFor();
    error LastManager(uint256 tokenId);

    constructor(PKPNFT pkpNft_) {
        pkpNft = pkpNft_;
    }

    function getAuthMethodId(uint256 authMethodType, bytes memory id) public pure returns (uint256) {
        return uint256(keccak256(abi.encode(authMethodType, id)));
    }

    // ------------------------------------------------------------------------------------------------------- reading

    function _current(uint256 tokenId) internal view returns (Grants storage) {
        (, uint64 grantEpoch) = pkpNft.ownership(tokenId);
        return _grants[tokenId][grantEpoch];
    }

    /// @dev The announcements that do not count yet.
    function _waiting(Grants storage grants) internal view returns (Change[] memory waiting) {
        if (grants.announced == 0) return waiting;
        waiting = grants.changes;
        uint256 kept = 0;
        for (uint256 i = 0; i < waiting.length; ++i) {
            if (waiting[i].waits()) waiting[kept++] = waiting[i];
        }
        assembly ("memory-safe") {
            mstore(waiting, kept)
        }
    }

    /// @dev Whether the method is permitted and what for, at this block's time.
    function _granted(Grants storage grants, Change[] memory waiting, uint256 methodId)
        internal
        view
        returns (bool permitted, uint256 scopes)
    {
        if (!grants.methods.contains(methodId)) return (false, 0);
        scopes = grants.scopes[methodId];
        for (uint256 i = 0; i < waiting.length; ++i) {
            if (waiting[i].subject != methodId) continue;
            if (waiting[i].kind == ChangeKind.AddMethod) return (false, 0);
            if (waiting[i].kind == ChangeKind.AddScope) scopes &= ~(1 << waiting[i].scopeId);
        }
        permitted = true;
    }

    function _delay(Grants storage grants) internal view returns (uint256 delay) {
        delay = grants.delay;
        if (grants.announced == 0) return delay;
        for (uint256 i = 0; i < grants.changes.length; ++i) {
            Change memory change = grants.changes[i];
            if (change.kind == ChangeKind.LowerDelay && !change.waits()) delay = change.subject;
        }
    }

    // ------------------------------------------------------------------------------------------------------- writing

    /// @dev The grants to be changed, with everything that has become active folded in.
    function _open(uint256 tokenId) internal returns (Grants storage grants) {
        grants = _current(tokenId);
        if (grants.announced == 0) return grants;
        for (uint256 i = grants.changes.length; i > 0; --i) {
            Change memory change = grants.changes[i - 1];
            if (change.waits() || change.isOpen()) continue;
            if (change.kind == ChangeKind.LowerDelay) grants.delay = uint64(change.subject);
            if (change.kind == ChangeKind.Renounce) grants.renounced = true;
            grants.changes.drop(i - 1);
        }
    }

    function _add(uint256 tokenId, AuthMethod memory method, uint256[] memory scopes) internal {
        _checkMethod(method);
        uint256 methodId = getAuthMethodId(method.authMethodType, method.id);
        Grants storage grants = _open(tokenId);
        if (!grants.methods.add(methodId)) revert AlreadyPermitted();
        if (method.userPubkey.length != 0) grants.userPubkey[methodId] = method.userPubkey;
        if (_identities[methodId].authMethodType == 0) {
            _identities[methodId] = Identity(method.authMethodType, method.id);
        }
        _tokensOf[methodId].add(tokenId);
        emit PermittedAuthMethodAdded(tokenId, method.authMethodType, method.id, method.userPubkey);
        for (uint256 i = 0; i < scopes.length; ++i) {
            _setScope(grants, methodId, tokenId, method.authMethodType, method.id, scopes[i]);
        }
        if (grants.delay != 0) _announce(grants, tokenId, ChangeKind.AddMethod, 0, methodId);
    }

    function _addScope(uint256 tokenId, uint256 authMethodType, bytes memory id, uint256 scopeId) internal {
        (Grants storage grants, uint256 methodId) = _recorded(tokenId, authMethodType, id);
        if (!_setScope(grants, methodId, tokenId, authMethodType, id, scopeId)) return;
        if (grants.delay != 0) _announce(grants, tokenId, ChangeKind.AddScope, uint8(scopeId), methodId);
    }

    function _removeScope(uint256 tokenId, uint256 authMethodType, bytes memory id, uint256 scopeId) internal {
        (Grants storage grants, uint256 methodId) = _recorded(tokenId, authMethodType, id);
        uint256 bit = _bit(scopeId);
        if (grants.scopes[methodId] & bit == 0) return;
        if (scopeId == SCOPE_MANAGE) _dropManager(grants, tokenId, authMethodType, id);
        grants.scopes[methodId] &= ~bit;
        emit PermittedAuthMethodScopeRemoved(tokenId, authMethodType, id, scopeId);
        _cancel(grants, tokenId, ChangeKind.AddScope, methodId, uint8(scopeId));
    }

    function _remove(uint256 tokenId, uint256 authMethodType, bytes memory id) internal {
        (Grants storage grants, uint256 methodId) = _recorded(tokenId, authMethodType, id);
        if (_manages(grants, methodId)) _dropManager(grants, tokenId, authMethodType, id);
        grants.methods.remove(methodId);
        delete grants.scopes[methodId];
        delete grants.userPubkey[methodId];
        _tokensOf[methodId].remove(tokenId);
        emit PermittedAuthMethodRemoved(tokenId, authMethodType, id);
        _cancel(grants, tokenId, ChangeKind.AddMethod, methodId, 0);
        _cancel(grants, tokenId, ChangeKind.AddScope, methodId, 0);
    }

    function _setDelay(uint256 tokenId, uint256 delay) internal {
        if (delay > MAX_DELAY) revert DelayTooLong(delay);
        Grants storage grants = _open(tokenId);
        // Whatever is wanted now, an earlier wish for less is withdrawn.
        _cancelAll(grants, tokenId, ChangeKind.LowerDelay);
        if (delay < grants.delay) {
            _announce(grants, tokenId, ChangeKind.LowerDelay, 0, delay);
        } else if (delay > grants.delay) {
            grants.delay = uint64(delay);
            emit DelayRaised(tokenId, delay);
        }
    }

    /// @dev From when this counts, the last way into a key that owns itself can be removed.
    function _renounce(uint256 tokenId) internal {
        Grants storage grants = _open(tokenId);
        emit KeyRenounced(tokenId);
        if (grants.delay == 0) {
            grants.renounced = true;
        } else {
            _announce(grants, tokenId, ChangeKind.Renounce, 0, 0);
        }
    }

    function _announceTransfer(uint256 tokenId, address to) internal {
        Grants storage grants = _open(tokenId);
        if (grants.delay == 0) revert NothingToWaitFor();
        _cancelAll(grants, tokenId, ChangeKind.Transfer);
        _announce(grants, tokenId, ChangeKind.Transfer, 0, uint160(to));
    }

    function _cancelChange(uint256 tokenId, uint256 changeId) internal {
        Grants storage grants = _open(tokenId);
        for (uint256 i = 0; i < grants.changes.length; ++i) {
            Change memory change = grants.changes[i];
            if (change.id != changeId) continue;
            if (change.kind == ChangeKind.AddMethod) {
                Identity storage method = _identities[change.subject];
                return _remove(tokenId, method.authMethodType, method.id);
            }
            if (change.kind == ChangeKind.AddScope) {
                Identity storage method = _identities[change.subject];
                return _removeScope(tokenId, method.authMethodType, method.id, change.scopeId);
            }
            return _withdraw(grants, tokenId, i);
        }
        revert NotPending(changeId);
    }

    function _announce(Grants storage grants, uint256 tokenId, ChangeKind kind, uint8 scopeId, uint256 subject) private {
        uint64 changeId = ++grants.announced;
        uint64 activeAt = uint64(block.timestamp) + grants.delay;
        grants.changes.append(Change(changeId, activeAt, kind, scopeId, subject));
        emit ChangeAnnounced(tokenId, changeId, kind, subject, activeAt);
    }

    /// @dev Withdraw the announcements of this kind about this subject; `scopeId` 0 stands for every scope.
    function _cancel(Grants storage grants, uint256 tokenId, ChangeKind kind, uint256 subject, uint8 scopeId) private {
        for (uint256 i = _count(grants); i > 0; --i) {
            Change storage change = grants.changes[i - 1];
            if (change.kind != kind || change.subject != subject) continue;
            if (scopeId == 0 || change.scopeId == scopeId) _withdraw(grants, tokenId, i - 1);
        }
    }

    function _cancelAll(Grants storage grants, uint256 tokenId, ChangeKind kind) private {
        for (uint256 i = _count(grants); i > 0; --i) {
            if (grants.changes[i - 1].kind == kind) _withdraw(grants, tokenId, i - 1);
        }
    }

    function _withdraw(Grants storage grants, uint256 tokenId, uint256 index) private {
        emit ChangeCancelled(tokenId, grants.changes[index].id);
        grants.changes.drop(index);
    }

    /// @dev A token without a delay has never announced anything: one slot says so, and the list is not looked at.
    function _count(Grants storage grants) private view returns (uint256) {
        return grants.announced == 0 ? 0 : grants.changes.length;
    }

    function _setScope(
        Grants storage grants,
        uint256 methodId,
        uint256 tokenId,
        uint256 authMethodType,
        bytes memory id,
        uint256 scopeId
    ) private returns (bool added) {
        uint256 bit = _bit(scopeId);
        if (grants.scopes[methodId] & bit != 0) return false;
        grants.scopes[methodId] |= bit;
        if (scopeId == SCOPE_MANAGE && _isWayIn(tokenId, authMethodType, id)) ++grants.managers;
        emit PermittedAuthMethodScopeAdded(tokenId, authMethodType, id, scopeId);
        return true;
    }

    function _manages(Grants storage grants, uint256 methodId) private view returns (bool) {
        return grants.scopes[methodId] & (1 << SCOPE_MANAGE) != 0;
    }

    /// @dev Somebody outside can prove the method: a program cannot log in, nor can the key at which one wants to arrive.
    function _isWayIn(uint256 tokenId, uint256 authMethodType, bytes memory id) private view returns (bool) {
        if (authMethodType != METHOD_ADDRESS) return authMethodType != METHOD_ACTION;
        return address(bytes20(id)) != pkpNft.getEthAddress(tokenId);
    }

    /// @dev A method is about to lose the scope to manage. One that counts now must stay with a key that owns itself.
    function _dropManager(Grants storage grants, uint256 tokenId, uint256 authMethodType, bytes memory id) private {
        if (!_isWayIn(tokenId, authMethodType, id)) return;
        Change[] memory waiting = _waiting(grants);
        uint256 methodId = getAuthMethodId(authMethodType, id);
        (, uint256 scopes) = _granted(grants, waiting, methodId);
        bool counts = scopes & (1 << SCOPE_MANAGE) != 0;
        if (counts && grants.managers - _waitingManagers(grants, tokenId, waiting) == 1) _checkMayLock(grants, tokenId);
        --grants.managers;
    }

    function _checkMayLock(Grants storage grants, uint256 tokenId) private view {
        (address owner,) = pkpNft.ownership(tokenId);
        if (!grants.renounced && owner == pkpNft.getEthAddress(tokenId)) revert LastManager(tokenId);
    }

    /// @dev How many of the recorded managers do not count yet.
    function _waitingManagers(Grants storage grants, uint256 tokenId, Change[] memory waiting)
        private
        view
        returns (uint256 count)
    {
        for (uint256 i = 0; i < waiting.length; ++i) {
            uint256 methodId = waiting[i].subject;
            if (!_concernsManager(waiting[i]) || !_manages(grants, methodId)) continue;
            bool seen = false;
            for (uint256 j = 0; j < i && !seen; ++j) {
                seen = waiting[j].subject == methodId && _concernsManager(waiting[j]);
            }
            Identity storage method = _identities[methodId];
            if (!seen && _isWayIn(tokenId, method.authMethodType, method.id)) ++count;
        }
    }

    function _concernsManager(Change memory change) private pure returns (bool) {
        return change.kind == ChangeKind.AddMethod
            || (change.kind == ChangeKind.AddScope && change.scopeId == SCOPE_MANAGE);
    }

    function _recorded(uint256 tokenId, uint256 authMethodType, bytes memory id)
        private
        returns (Grants storage grants, uint256 methodId)
    {
        grants = _open(tokenId);
        methodId = getAuthMethodId(authMethodType, id);
        if (!grants.methods.contains(methodId)) revert NotPermitted();
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
    function _bit(uint256 scopeId) internal pure returns (uint256) {
        if (scopeId == 0 || scopeId > 255) revert BadScope(scopeId);
        return 1 << scopeId;
    }
}
