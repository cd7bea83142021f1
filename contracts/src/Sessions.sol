// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {PKPNFT} from "./PKPNFT.sol";
import {PubkeyRouter} from "./PubkeyRouter.sol";

/// @title Sessions: which session certificates count no longer
/// @notice A certificate is dead if it was issued at or before `revokedBefore` of its own mark, of the mark of an identity
/// that it names, or of a key that it is used for. Nodes look here, so a session ends everywhere within one block.
/// @dev A mark's time never goes back. The network key signs revocations, so anybody may deliver one and nobody pays
/// twice for it: delivering it again changes nothing.
contract Sessions {
    bytes32 public constant REVOCATION_TYPE = keccak256("keyquorum.revocation.v1");

    PKPNFT public immutable pkpNft;
    PubkeyRouter public immutable router;

    mapping(bytes32 what => uint64) private _revokedBefore;

    event Revoked(bytes32 indexed what, uint64 before);

    error NetworkKeyMissing();
    error NotSignedByNetworkKey(address recovered);
    error OnlyOwnerOf(uint256 tokenId);

    constructor(PKPNFT pkpNft_, PubkeyRouter router_) {
        pkpNft = pkpNft_;
        router = router_;
    }

    /// @notice Revoke what the network has agreed to revoke; from anybody.
    /// @param what `sessionMark`, `identityMark` or `keyMark`
    /// @param before Seconds since 1970: certificates issued until then are dead
    /// @param signature r, s, v of the network key over `revocationDigest(what, before)`; s in the lower half
    function revoke(bytes32 what, uint64 before, bytes calldata signature) external {
        address networkAddress = router.networkAddress();
        if (networkAddress == address(0)) revert NetworkKeyMissing();
        address recovered = ECDSA.recoverCalldata(revocationDigest(what, before), signature);
        if (recovered != networkAddress) revert NotSignedByNetworkKey(recovered);
        _revoke(what, before);
    }

    /// @notice Revoke every session of a key up to now; only its owner.
    function revokeSessionsOf(uint256 tokenId) external {
        (address owner,) = pkpNft.ownership(tokenId);
        if (msg.sender != owner) revert OnlyOwnerOf(tokenId);
        _revoke(keyMark(tokenId), uint64(block.timestamp));
    }

    /// @notice For each mark the time up to which certificates are dead; 0 if nothing has been revoked.
    function revokedBefore(bytes32[] calldata whats) external view returns (uint64[] memory times) {
        times = new uint64[](whats.length);
        for (uint256 i = 0; i < whats.length; ++i) {
            times[i] = _revokedBefore[whats[i]];
        }
    }

    /// @notice What the network key signs.
    function revocationDigest(bytes32 what, uint64 before) public view returns (bytes32) {
        return keccak256(abi.encode(REVOCATION_TYPE, block.chainid, address(this), what, before));
    }

    /// @notice The mark of one certificate, by its name.
    function sessionMark(bytes32 jti) external pure returns (bytes32) {
        return keccak256(abi.encode("session", jti));
    }

    /// @notice The mark of whoever has proven this identity.
    function identityMark(uint256 authMethodType, bytes calldata id) external pure returns (bytes32) {
        return keccak256(abi.encode("identity", authMethodType, id));
    }

    /// @notice The mark of a key.
    function keyMark(uint256 tokenId) public pure returns (bytes32) {
        return keccak256(abi.encode("key", tokenId));
    }

    function _revoke(bytes32 what, uint64 before) private {
        if (before <= _revokedBefore[what]) return;
        _revokedBefore[what] = before;
        emit Revoked(what, before);
    }
}
