// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TestWallet} from "./TestWallet.sol";

/// @title TestWalletFactory: wallets whose addresses are known before they exist (CREATE2)
contract TestWalletFactory {
    /// @notice Deploy the wallet of `owner`; deploying it again does nothing.
    function deploy(address owner, bytes32 salt) external returns (address wallet) {
        wallet = addressOf(owner, salt);
        if (wallet.code.length == 0) new TestWallet{salt: salt}(owner);
    }

    function addressOf(address owner, bytes32 salt) public view returns (address) {
        bytes32 initCodeHash = keccak256(abi.encodePacked(type(TestWallet).creationCode, abi.encode(owner)));
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, initCodeHash)))));
    }
}
