// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {PKPNFT} from "./PKPNFT.sol";
import {PKPPermissions} from "./PKPPermissions.sol";

/// @title PKPHelper: mint a key and set it up in one transaction
/// @notice Mints straight to the final owner and makes the grants in that owner's name, so there is no moment at which
/// anybody else owns the key and no transfer that would void the grants.
/// @dev Holds nothing and decides nothing. Deployed last; its constructor refuses contracts that do not name each other.
contract PKPHelper {
    PKPNFT public immutable pkpNft;
    PKPPermissions public immutable permissions;

    error NotWiredTogether();
    error ZeroReceiver();
    error LengthMismatch();

    constructor(PKPNFT pkpNft_, PKPPermissions permissions_) {
        if (
            pkpNft_.helper() != address(this) || permissions_.helper() != address(this)
                || pkpNft_.permissions() != address(permissions_) || address(permissions_.pkpNft()) != address(pkpNft_)
                || address(permissions_.router()) != address(pkpNft_.router()) || pkpNft_.router().pkpNft() != address(pkpNft_)
        ) revert NotWiredTogether();
        pkpNft = pkpNft_;
        permissions = permissions_;
    }

    /// @notice Mint the next key with authentication methods.
    /// @param addPkpEthAddressAsPermittedAddress Permit the key's own address, with scope 1
    /// @param sendPkpToItself Make the key its own owner; otherwise the sender owns it
    function mintNextAndAddAuthMethods(
        uint256 keyType,
        uint256[] memory permittedAuthMethodTypes,
        bytes[] memory permittedAuthMethodIds,
        bytes[] memory permittedAuthMethodPubkeys,
        uint256[][] memory permittedAuthMethodScopes,
        bool addPkpEthAddressAsPermittedAddress,
        bool sendPkpToItself
    ) external payable returns (uint256 tokenId) {
        tokenId = _begin(keyType, sendPkpToItself ? address(0) : msg.sender);
        _grantMethods(
            tokenId,
            permittedAuthMethodTypes,
            permittedAuthMethodIds,
            permittedAuthMethodPubkeys,
            permittedAuthMethodScopes
        );
        _finish(tokenId, addPkpEthAddressAsPermittedAddress);
    }

    /// @notice The same, with actions and addresses in lists of their own.
    function mintNextAndAddAuthMethodsWithTypes(
        uint256 keyType,
        bytes[] memory permittedIpfsCIDs,
        uint256[][] memory permittedIpfsCIDScopes,
        address[] memory permittedAddresses,
        uint256[][] memory permittedAddressScopes,
        uint256[] memory permittedAuthMethodTypes,
        bytes[] memory permittedAuthMethodIds,
        bytes[] memory permittedAuthMethodPubkeys,
        uint256[][] memory permittedAuthMethodScopes,
        bool addPkpEthAddressAsPermittedAddress,
        bool sendPkpToItself
    ) external payable returns (uint256 tokenId) {
        tokenId = _begin(keyType, sendPkpToItself ? address(0) : msg.sender);
        _grantActions(tokenId, permittedIpfsCIDs, permittedIpfsCIDScopes);
        _grantAddresses(tokenId, permittedAddresses, permittedAddressScopes);
        _grantMethods(
            tokenId,
            permittedAuthMethodTypes,
            permittedAuthMethodIds,
            permittedAuthMethodPubkeys,
            permittedAuthMethodScopes
        );
        _finish(tokenId, addPkpEthAddressAsPermittedAddress);
    }

    /// @notice Mint the next key to somebody else, who need not hold any ether: for a relay that pays for its users.
    function mintNextAndTransfer(
        uint256 keyType,
        address to,
        uint256[] memory permittedAuthMethodTypes,
        bytes[] memory permittedAuthMethodIds,
        bytes[] memory permittedAuthMethodPubkeys,
        uint256[][] memory permittedAuthMethodScopes,
        bool addPkpEthAddressAsPermittedAddress
    ) external payable returns (uint256 tokenId) {
        if (to == address(0)) revert ZeroReceiver();
        tokenId = _begin(keyType, to);
        _grantMethods(
            tokenId,
            permittedAuthMethodTypes,
            permittedAuthMethodIds,
            permittedAuthMethodPubkeys,
            permittedAuthMethodScopes
        );
        _finish(tokenId, addPkpEthAddressAsPermittedAddress);
    }

    function _begin(uint256 keyType, address to) private returns (uint256) {
        return pkpNft.beginMint{value: msg.value}(keyType, to);
    }

    /// @dev Telling the receiver is the very last thing that happens.
    function _finish(uint256 tokenId, bool permitItself) private {
        if (permitItself) _permitItself(tokenId);
        pkpNft.finishMint(tokenId);
    }

    function _permitItself(uint256 tokenId) private {
        address[] memory users = new address[](1);
        users[0] = pkpNft.getEthAddress(tokenId);
        uint256[][] memory scopes = new uint256[][](1);
        scopes[0] = new uint256[](1);
        scopes[0][0] = 1;
        _grantAddresses(tokenId, users, scopes);
    }

    function _grantMethods(
        uint256 tokenId,
        uint256[] memory types,
        bytes[] memory ids,
        bytes[] memory pubkeys,
        uint256[][] memory scopes
    ) private {
        if (ids.length != types.length || pubkeys.length != types.length) revert LengthMismatch();
        PKPPermissions.AuthMethod[] memory methods = new PKPPermissions.AuthMethod[](types.length);
        for (uint256 i = 0; i < types.length; ++i) {
            methods[i] = PKPPermissions.AuthMethod(types[i], ids[i], pubkeys[i]);
        }
        _grant(tokenId, methods, scopes);
    }

    function _grantActions(uint256 tokenId, bytes[] memory cids, uint256[][] memory scopes) private {
        PKPPermissions.AuthMethod[] memory methods = new PKPPermissions.AuthMethod[](cids.length);
        uint256 action = permissions.METHOD_ACTION();
        for (uint256 i = 0; i < cids.length; ++i) {
            methods[i] = PKPPermissions.AuthMethod(action, cids[i], "");
        }
        _grant(tokenId, methods, scopes);
    }

    function _grantAddresses(uint256 tokenId, address[] memory users, uint256[][] memory scopes) private {
        PKPPermissions.AuthMethod[] memory methods = new PKPPermissions.AuthMethod[](users.length);
        uint256 user = permissions.METHOD_ADDRESS();
        for (uint256 i = 0; i < users.length; ++i) {
            methods[i] = PKPPermissions.AuthMethod(user, abi.encodePacked(users[i]), "");
        }
        _grant(tokenId, methods, scopes);
    }

    /// @dev PKPPermissions checks that there are as many lists of scopes as methods.
    function _grant(uint256 tokenId, PKPPermissions.AuthMethod[] memory methods, uint256[][] memory scopes) private {
        if (methods.length != 0 || scopes.length != 0) permissions.grantAtMint(tokenId, methods, scopes);
    }
}
