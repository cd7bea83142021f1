// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {PermissionViews} from "./PermissionViews.sol";
import {PKPNFT} from "./PKPNFT.sol";
import {PubkeyRouter} from "./PubkeyRouter.sol";
import {Sessions} from "./Sessions.sol";

/// @title PKPPermissions: who else may use a key, and for what
/// @notice The owner of a token permits authentication methods (an address, a program, a passkey, an account somewhere)
/// and gives each of them scopes. Nodes read it before they sign. What takes something away counts at once; what gives
/// something counts after the token's own delay (0 unless set), and can be withdrawn until then.
/// @dev A method without scopes identifies its user and may sign nothing. What the owner may do by owning is for the
/// nodes to say; this contract only records what has been granted, to the owner's address as to any other.
/// `getAuthMethodId` is the internal key; ids are the bytes that existing clients use.
contract PKPPermissions is PermissionViews, EIP712 {
    bytes32 public constant PERMISSION_CALL_TYPE =
        keccak256("PermissionCall(uint256 tokenId,bytes call,uint256 nonce,uint256 deadline)");

    address public immutable helper;
    Sessions public immutable sessions;

    /// @dev The token whose owner has signed the call that this contract makes to itself in this transaction, or 0.
    uint256 private transient _acting;

    event Executed(uint256 indexed tokenId, uint256 nonce, address indexed sender);

    error OnlyOwnerOf(uint256 tokenId);
    error OnlyWhileMinting(uint256 tokenId);
    error LengthMismatch();
    error Expired(uint256 deadline);
    error WrongNonce(uint256 given, uint256 expected);
    error NotSignedByOwner(uint256 tokenId);
    error NotInsideExecute();

    modifier onlyOwnerOf(uint256 tokenId) {
        _checkOwner(tokenId);
        _;
    }

    constructor(PKPNFT pkpNft_, PubkeyRouter router_, address helper_, Sessions sessions_)
        PermissionViews(pkpNft_, router_)
        EIP712("Keyquorum PKPPermissions", "1")
    {
        helper = helper_;
        sessions = sessions_;
    }

    // ------------------------------------------------------------------------------------------------------- methods

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
        _addScope(tokenId, authMethodType, id, scopeId);
    }

    /// @notice Withdraw one scope; does nothing if the method does not have it.
    function removePermittedAuthMethodScope(uint256 tokenId, uint256 authMethodType, bytes calldata id, uint256 scopeId)
        external
        onlyOwnerOf(tokenId)
    {
        _removeScope(tokenId, authMethodType, id, scopeId);
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

    // --------------------------------------------------------------------------------------------------------- delay

    /// @notice Let every loosening of this token wait. A longer delay counts at once, a shorter one after the present one.
    /// @param delay Seconds, at most MAX_DELAY
    function setDelay(uint256 tokenId, uint256 delay) external onlyOwnerOf(tokenId) {
        _setDelay(tokenId, delay);
    }

    /// @notice Withdraw what has been announced: also a transfer that may be made already and has not been.
    function cancelPendingChange(uint256 tokenId, uint256 changeId) external onlyOwnerOf(tokenId) {
        _cancelChange(tokenId, changeId);
    }

    /// @notice Say to whom the token is to go (0: be burned); needed while it has a delay. Replaces an earlier announcement.
    function announceTransfer(uint256 tokenId, address to) external onlyOwnerOf(tokenId) {
        _announceTransfer(tokenId, to);
    }

    /// @notice Allow the last way into a key that owns itself to be removed, after the token's delay. Such a removal gives up
    /// the key, and what it holds, for ever; without this call it is refused (`LastManager`).
    function renounceKey(uint256 tokenId) external onlyOwnerOf(tokenId) {
        _renounce(tokenId);
    }

    // -------------------------------------------------------------------------------------------------- signed calls

    /// @notice Make one call to this contract in the name of the token's owner, who has signed it; anybody may pay for it.
    /// @param call ABI-encoded call of a function above, about the same token
    /// @param nonce `nonces(tokenId)`
    /// @param deadline Last second at which the call may be made
    /// @param signature r, s, v (65 bytes, s in the lower half) by the owner over `permissionCallDigest`, or what the
    /// owner's own `isValidSignature` (ERC-1271) accepts
    function execute(
        uint256 tokenId,
        bytes calldata call,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external returns (bytes memory result) {
        if (_acting != 0) revert NotInsideExecute();
        if (block.timestamp > deadline) revert Expired(deadline);
        (address owner, uint64 grantEpoch) = pkpNft.ownership(tokenId);
        if (owner == address(0)) revert OnlyOwnerOf(tokenId);
        uint256 expected = _nonce(tokenId, grantEpoch);
        if (nonce != expected) revert WrongNonce(nonce, expected);
        if (!_isSignedBy(owner, permissionCallDigest(tokenId, call, nonce, deadline), signature)) {
            revert NotSignedByOwner(tokenId);
        }
        ++_grants[tokenId][grantEpoch].executed;
        _acting = tokenId;
        result = Address.functionCall(address(this), call);
        _acting = 0;
        emit Executed(tokenId, nonce, msg.sender);
    }

    /// @notice The number that the next signed call must carry: grant epoch times 2^32, plus the calls made in it. So a
    /// change of owner voids whatever has been signed and not been sent.
    function nonces(uint256 tokenId) external view returns (uint256) {
        (, uint64 grantEpoch) = pkpNft.ownership(tokenId);
        return _nonce(tokenId, grantEpoch);
    }

    /// @notice What the owner signs (EIP-712).
    function permissionCallDigest(uint256 tokenId, bytes calldata call, uint256 nonce, uint256 deadline)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(keccak256(abi.encode(PERMISSION_CALL_TYPE, tokenId, keccak256(call), nonce, deadline)));
    }

    // ------------------------------------------------------------------------------------------------------ internals

    /// @dev The contract calls itself only in `execute`, for one token.
    function _checkOwner(uint256 tokenId) private view {
        if (msg.sender == address(this)) {
            if (_acting != tokenId) revert OnlyOwnerOf(tokenId);
        } else {
            (address owner,) = pkpNft.ownership(tokenId);
            if (msg.sender != owner) revert OnlyOwnerOf(tokenId);
        }
    }

    function _nonce(uint256 tokenId, uint64 grantEpoch) private view returns (uint256) {
        return (uint256(grantEpoch) << 32) | _grants[tokenId][grantEpoch].executed;
    }

    /// @dev The key of an address speaks for it also where code has been delegated to it (EIP-7702).
    function _isSignedBy(address owner, bytes32 digest, bytes calldata signature) private view returns (bool) {
        (address recovered, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (problem == ECDSA.RecoverError.NoError && recovered == owner) return true;
        return SignatureChecker.isValidERC1271SignatureNowCalldata(owner, digest, signature);
    }
}
