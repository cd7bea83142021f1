// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ERC721Burnable} from "@openzeppelin/contracts/token/ERC721/extensions/ERC721Burnable.sol";
import {ERC721Enumerable} from "@openzeppelin/contracts/token/ERC721/extensions/ERC721Enumerable.sol";
import {ERC721Utils} from "@openzeppelin/contracts/token/ERC721/utils/ERC721Utils.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Base64} from "@openzeppelin/contracts/utils/Base64.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";
import {PubkeyRouter} from "./PubkeyRouter.sol";

/// @dev What PKPNFT asks of PKPPermissions, which imports this file.
interface IMoves {
    function checkMove(uint256 tokenId, uint64 grantEpoch, address to) external view;
}

/// @title PKPNFT: who controls a key
/// @notice One token for each programmable key pair; its id is keccak256 of the 65-byte public key. Minting takes the
/// oldest key of the pool, so whoever comes first gets a key that nobody has seen used, and loses nothing to others.
/// @dev Every change of owner, burning included, adds one to the token's grant epoch. PKPPermissions files each grant
/// under the epoch in which it was made, so a former owner's grants are void in the same transaction at no cost. A token
/// whose owner has given it a delay moves only to whom he has announced there, and only after the wait.
contract PKPNFT is ERC721Enumerable, ERC721Burnable, Ownable2Step {
    uint256 private constant KEY_TYPE_SECP256K1 = 2;

    PubkeyRouter public immutable router;
    address public immutable permissions;
    address public immutable helper;

    /// @notice What minting one key costs, in wei; exactly this must be sent.
    uint256 public mintCost;

    /// @notice The token that the helper is minting in this very transaction, or 0.
    uint256 public transient minting;

    mapping(uint256 tokenId => uint64) private _grantEpoch;

    event PKPMinted(uint256 indexed tokenId, bytes pubkey);
    event MintCostSet(uint256 newMintCost);
    event Withdrew(uint256 amount);

    error WrongKeyType(uint256 keyType);
    error WrongPayment(uint256 given, uint256 required);
    error OnlyHelper();
    error OwnerIsNeeded();

    modifier onlyHelper() {
        if (msg.sender != helper) revert OnlyHelper();
        _;
    }

    constructor(address initialOwner, PubkeyRouter router_, address permissions_, address helper_)
        ERC721("Programmable Key Pair", "PKP")
        Ownable(initialOwner)
    {
        router = router_;
        permissions = permissions_;
        helper = helper_;
    }

    /// @notice Mint the next key of the pool to the sender.
    /// @param keyType 2, ECDSA over secp256k1
    function mintNext(uint256 keyType) external payable returns (uint256 tokenId) {
        return _mintNext(keyType, 0);
    }

    /// @notice The same, and only if the next key is the one that is expected (`router.nextKey()`).
    function mintNextExpecting(uint256 keyType, uint256 expectedTokenId) external payable returns (uint256 tokenId) {
        return _mintNext(keyType, expectedTokenId);
    }

    /// @notice Mint the next key of the pool to `to`, or to the key's own address if `to` is 0; only the helper.
    /// @param expectedTokenId The key that it must be, or 0
    /// @dev The receiver is not told yet: first come the grants, then `finishMint`.
    function beginMint(uint256 keyType, address to, uint256 expectedTokenId)
        external
        payable
        onlyHelper
        returns (uint256 tokenId)
    {
        tokenId = _takeNext(keyType, expectedTokenId);
        minting = tokenId;
        _mint(to == address(0) ? router.getEthAddress(tokenId) : to, tokenId);
    }

    /// @notice Close the minting of `tokenId` and let a receiving contract refuse it; only the helper.
    function finishMint(uint256 tokenId) external onlyHelper {
        minting = 0;
        ERC721Utils.checkOnERC721Received(msg.sender, address(0), ownerOf(tokenId), tokenId, "");
    }

    function setMintCost(uint256 newMintCost) external onlyOwner {
        mintCost = newMintCost;
        emit MintCostSet(newMintCost);
    }

    /// @notice Send what minting has earned to the owner of this contract.
    function withdraw() external onlyOwner {
        uint256 amount = address(this).balance;
        emit Withdrew(amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @notice Refused: what minting has earned, and the price, would be nobody's for ever.
    function renounceOwnership() public view override onlyOwner {
        revert OwnerIsNeeded();
    }

    /// @notice The tokens of an owner from number `offset` on, at most `limit`; `balanceOf` counts them.
    function tokensOfOwner(address owner, uint256 offset, uint256 limit)
        external
        view
        returns (uint256[] memory tokenIds)
    {
        uint256 count = balanceOf(owner);
        count = offset < count ? Math.min(limit, count - offset) : 0;
        tokenIds = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            tokenIds[i] = tokenOfOwnerByIndex(owner, offset + i);
        }
    }

    function getRouterAddress() external view returns (address) {
        return address(router);
    }

    function getPkpPermissionsAddress() external view returns (address) {
        return permissions;
    }

    function getStakingAddress() external view returns (address) {
        return address(router.staking());
    }

    function exists(uint256 tokenId) external view returns (bool) {
        return _ownerOf(tokenId) != address(0);
    }

    /// @notice The owner (0: not minted or burned) and the grant epoch (0: never minted). Never reverts.
    function ownership(uint256 tokenId) external view returns (address owner, uint64 grantEpoch) {
        return (_ownerOf(tokenId), _grantEpoch[tokenId]);
    }

    function getPubkey(uint256 tokenId) external view returns (bytes memory) {
        return router.getPubkey(tokenId);
    }

    function getEthAddress(uint256 tokenId) external view returns (address) {
        return router.getEthAddress(tokenId);
    }

    /// @notice A data URL with name, public key and address: nothing outside the chain is needed to show a token.
    function tokenURI(uint256 tokenId) public view override returns (string memory) {
        _requireOwned(tokenId);
        bytes memory json = abi.encodePacked(
            '{"name":"Programmable Key Pair ',
            Strings.toHexString(tokenId, 32),
            '","description":"Controls a key that no single machine holds.","attributes":[{"trait_type":"Public key","value":"',
            Strings.toHexString(router.getPubkey(tokenId)),
            '"},{"trait_type":"Ethereum address","value":"',
            Strings.toChecksumHexString(router.getEthAddress(tokenId)),
            '"}]}'
        );
        return string.concat("data:application/json;base64,", Base64.encode(json));
    }

    function supportsInterface(bytes4 interfaceId) public view override(ERC721, ERC721Enumerable) returns (bool) {
        return super.supportsInterface(interfaceId);
    }

    function _mintNext(uint256 keyType, uint256 expectedTokenId) private returns (uint256 tokenId) {
        tokenId = _takeNext(keyType, expectedTokenId);
        _mint(msg.sender, tokenId);
        ERC721Utils.checkOnERC721Received(msg.sender, address(0), msg.sender, tokenId, "");
    }

    function _takeNext(uint256 keyType, uint256 expectedTokenId) private returns (uint256 tokenId) {
        if (keyType != KEY_TYPE_SECP256K1) revert WrongKeyType(keyType);
        if (msg.value != mintCost) revert WrongPayment(msg.value, mintCost);
        bytes memory pubkey;
        (tokenId, pubkey) = router.take(expectedTokenId);
        emit PKPMinted(tokenId, pubkey);
    }

    function _update(address to, uint256 tokenId, address auth)
        internal
        override(ERC721, ERC721Enumerable)
        returns (address)
    {
        if (_ownerOf(tokenId) != address(0)) IMoves(permissions).checkMove(tokenId, _grantEpoch[tokenId], to);
        ++_grantEpoch[tokenId];
        return super._update(to, tokenId, auth);
    }

    function _increaseBalance(address account, uint128 value) internal override(ERC721, ERC721Enumerable) {
        super._increaseBalance(account, value);
    }
}
