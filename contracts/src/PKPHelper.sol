// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {PKPNFT} from "./PKPNFT.sol";
import {PermissionStore} from "./PermissionStore.sol";
import {PKPPermissions} from "./PKPPermissions.sol";
import {Sessions} from "./Sessions.sol";

/// @title PKPHelper: mint a key and set it up in one transaction
/// @notice Mints straight to the final owner and makes the grants in that owner's name, so there is no moment at which
/// anybody else owns the key and no transfer that would void the grants.
/// @dev Holds nothing, and decides nothing but which key a relay has minted for a login. Deployed last; its constructor
/// refuses contracts that do not name each other.
contract PKPHelper {
    /// @dev A verified login: method, its public key if it has one, its scopes, and which of this login's keys is meant.
    struct Login {
        uint256 authMethodType;
        bytes id;
        bytes userPubkey;
        uint256[] scopes;
        bytes32 label;
    }

    /// @dev A mint that can be sent again: `requestId` is the sender's own name for it and not 0. `expectedTokenId` 0 stands for
    /// any key, `to` 0 for the key's own address.
    struct Request {
        bytes32 requestId;
        uint256 expectedTokenId;
        address to;
        PermissionStore.AuthMethod[] methods;
        uint256[][] scopes;
    }

    uint256 private constant KEY_TYPE_SECP256K1 = 2;

    PKPNFT public immutable pkpNft;
    PKPPermissions public immutable permissions;

    mapping(bytes32 loginHash => uint256 tokenId) private _keyOf;

    /// @notice The key that this sender's request has minted, or 0.
    mapping(address sender => mapping(bytes32 requestId => uint256 tokenId)) public keyOfRequest;

    event LoginKey(
        address indexed relay, uint256 indexed methodId, bytes32 label, uint256 tokenId, bool minted
    );

    event RequestKey(address indexed sender, bytes32 indexed requestId, uint256 tokenId, bool minted);

    error NotWiredTogether();
    error NoRequestId();
    error ZeroReceiver();
    error LengthMismatch();
    error TooLittleSent(uint256 sent);

    constructor(PKPNFT pkpNft_, PKPPermissions permissions_) {
        if (
            pkpNft_.helper() != address(this) || permissions_.helper() != address(this)
                || pkpNft_.permissions() != address(permissions_) || address(permissions_.pkpNft()) != address(pkpNft_)
                || address(permissions_.router()) != address(pkpNft_.router()) || pkpNft_.router().pkpNft() != address(pkpNft_)
        ) revert NotWiredTogether();
        Sessions sessions = permissions_.sessions();
        if (
            address(sessions.pkpNft()) != address(pkpNft_) || address(sessions.router()) != address(pkpNft_.router())
                || pkpNft_.router().staking().router() != address(pkpNft_.router())
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

    /// @notice Mint a key for a request, or answer with the key that the same sender's same request has minted before,
    /// whatever else is in it. So whoever does not know whether a mint has happened sends it again, and pays once.
    /// @dev Exactly the price is kept, the rest goes back at the very end.
    function mintOnce(Request calldata request) external payable returns (uint256 tokenId) {
        if (request.requestId == 0) revert NoRequestId();
        tokenId = keyOfRequest[msg.sender][request.requestId];
        bool minted = tokenId == 0;
        uint256 left = msg.value;
        if (minted) {
            uint256 price = pkpNft.mintCost();
            if (left < price) revert TooLittleSent(left);
            left -= price;
            tokenId = pkpNft.beginMint{value: price}(KEY_TYPE_SECP256K1, request.to, request.expectedTokenId);
            keyOfRequest[msg.sender][request.requestId] = tokenId;
            _grant(tokenId, request.methods, request.scopes);
        }
        emit RequestKey(msg.sender, request.requestId, tokenId, minted);
        if (minted) pkpNft.finishMint(tokenId);
        if (left != 0) Address.sendValue(payable(msg.sender), left);
    }

    /// @notice For each login its key, minted now if there is none: owned by itself, with the login's method permitted.
    /// One transaction for many people, paid by a relay; asking twice gives the same key.
    function mintForLogins(Login[] calldata logins) external payable returns (uint256[] memory tokenIds) {
        return _mintForLogins(logins, 0);
    }

    /// @notice The same, and only if the first key that is minted is the expected one; the others follow it in the pool.
    function mintForLoginsExpecting(Login[] calldata logins, uint256 expectedTokenId)
        external
        payable
        returns (uint256[] memory tokenIds)
    {
        return _mintForLogins(logins, expectedTokenId);
    }

    /// @notice The key that `relay` has minted for a login, or 0 if there is none that still obeys it.
    /// @dev A key that has been moved does not count: its new owner could permit the method, and pass his key for theirs.
    function keyFor(address relay, uint256 authMethodType, bytes calldata id, bytes32 label)
        external
        view
        returns (uint256)
    {
        uint256 methodId = permissions.getAuthMethodId(authMethodType, id);
        return _loginKey(_loginHash(relay, methodId, label), authMethodType, id);
    }

    /// @dev What was sent and not needed goes back at the very end.
    function _mintForLogins(Login[] calldata logins, uint256 expected) private returns (uint256[] memory tokenIds) {
        uint256 price = pkpNft.mintCost();
        uint256 left = msg.value;
        tokenIds = new uint256[](logins.length);
        for (uint256 i = 0; i < logins.length; ++i) {
            Login calldata login = logins[i];
            uint256 methodId = permissions.getAuthMethodId(login.authMethodType, login.id);
            bytes32 loginHash = _loginHash(msg.sender, methodId, login.label);
            uint256 tokenId = _loginKey(loginHash, login.authMethodType, login.id);
            bool minted = tokenId == 0;
            if (minted) {
                if (left < price) revert TooLittleSent(msg.value);
                left -= price;
                tokenId = _mintForLogin(login, price, expected);
                expected = 0;
                _keyOf[loginHash] = tokenId;
            }
            tokenIds[i] = tokenId;
            emit LoginKey(msg.sender, methodId, login.label, tokenId, minted);
        }
        if (left != 0) Address.sendValue(payable(msg.sender), left);
    }

    function getPkpNftAddress() external view returns (address) {
        return address(pkpNft);
    }

    function getPkpPermissionsAddress() external view returns (address) {
        return address(permissions);
    }

    function getStakingAddress() external view returns (address) {
        return address(pkpNft.router().staking());
    }

    function _loginHash(address relay, uint256 methodId, bytes32 label) private pure returns (bytes32) {
        return keccak256(abi.encode(relay, methodId, label));
    }

    function _loginKey(bytes32 loginHash, uint256 authMethodType, bytes calldata id) private view returns (uint256) {
        uint256 tokenId = _keyOf[loginHash];
        if (tokenId == 0) return 0;
        (, uint64 grantEpoch) = pkpNft.ownership(tokenId);
        bool kept = grantEpoch == 1 && permissions.isPermittedAuthMethod(tokenId, authMethodType, id);
        return kept ? tokenId : 0;
    }

    function _mintForLogin(Login calldata login, uint256 price, uint256 expected) private returns (uint256 tokenId) {
        tokenId = pkpNft.beginMint{value: price}(KEY_TYPE_SECP256K1, address(0), expected);
        PermissionStore.AuthMethod[] memory methods = new PermissionStore.AuthMethod[](1);
        methods[0] = PermissionStore.AuthMethod(login.authMethodType, login.id, login.userPubkey);
        uint256[][] memory scopes = new uint256[][](1);
        scopes[0] = login.scopes;
        permissions.grantAtMint(tokenId, methods, scopes);
        pkpNft.finishMint(tokenId);
    }

    function _begin(uint256 keyType, address to) private returns (uint256) {
        return pkpNft.beginMint{value: msg.value}(keyType, to, 0);
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
        PermissionStore.AuthMethod[] memory methods = new PermissionStore.AuthMethod[](types.length);
        for (uint256 i = 0; i < types.length; ++i) {
            methods[i] = PermissionStore.AuthMethod(types[i], ids[i], pubkeys[i]);
        }
        _grant(tokenId, methods, scopes);
    }

    function _grantActions(uint256 tokenId, bytes[] memory cids, uint256[][] memory scopes) private {
        PermissionStore.AuthMethod[] memory methods = new PermissionStore.AuthMethod[](cids.length);
        uint256 action = permissions.METHOD_ACTION();
        for (uint256 i = 0; i < cids.length; ++i) {
            methods[i] = PermissionStore.AuthMethod(action, cids[i], "");
        }
        _grant(tokenId, methods, scopes);
    }

    function _grantAddresses(uint256 tokenId, address[] memory users, uint256[][] memory scopes) private {
        PermissionStore.AuthMethod[] memory methods = new PermissionStore.AuthMethod[](users.length);
        uint256 user = permissions.METHOD_ADDRESS();
        for (uint256 i = 0; i < users.length; ++i) {
            methods[i] = PermissionStore.AuthMethod(user, abi.encodePacked(users[i]), "");
        }
        _grant(tokenId, methods, scopes);
    }

    /// @dev PKPPermissions checks that there are as many lists of scopes as methods.
    function _grant(uint256 tokenId, PermissionStore.AuthMethod[] memory methods, uint256[][] memory scopes) private {
        if (methods.length != 0 || scopes.length != 0) permissions.grantAtMint(tokenId, methods, scopes);
    }
}
