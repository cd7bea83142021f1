// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC721Receiver} from "@openzeppelin/contracts/token/ERC721/IERC721Receiver.sol";

/// @title Puppet: a contract account that does as the tests say, also while it is being told of a token
contract Puppet is IERC721Receiver {
    address private _target;
    bytes private _data;
    bool private _refuses;

    /// @notice Whether the call made while receiving succeeded, and what it returned.
    bool public called;
    bool public succeeded;
    bytes public returned;

    error CallFailed(bytes reason);
    error Refused();

    receive() external payable {
        _act();
    }

    /// @notice Do this once, on receiving a token or ether.
    function plan(address target, bytes calldata data) external {
        (_target, _data, called) = (target, data, false);
    }

    function refuse(bool refuses) external {
        _refuses = refuses;
    }

    function execute(address target, uint256 value, bytes calldata data) external returns (bytes memory result) {
        bool ok;
        (ok, result) = target.call{value: value}(data);
        if (!ok) revert CallFailed(result);
    }

    function onERC721Received(address, address, uint256, bytes calldata) external returns (bytes4) {
        if (_refuses) revert Refused();
        _act();
        return IERC721Receiver.onERC721Received.selector;
    }

    function _act() private {
        if (_target == address(0) || called) return;
        called = true;
        (succeeded, returned) = _target.call(_data);
    }
}
