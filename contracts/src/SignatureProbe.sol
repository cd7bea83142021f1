// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/// @title SignatureProbe: ask a wallet that may not be deployed yet whether it signed (ERC-6492, ERC-1271)
/// @notice Never deployed: the init code, with arguments, is the data of an `eth_call` without destination. What the
/// constructor returns, and so the answer of that call, is one word: ERC-1271's magic value, or zero.
/// @dev If the signer has no code, its factory is called first, as it would be in the wallet's first transaction. Only
/// the code that is then at the signer's own address is asked. All of it is undone when the call ends.
contract SignatureProbe {
    constructor(address signer, bytes32 digest, address factory, bytes memory factoryCall, bytes memory signature) {
        if (signer.code.length == 0 && factoryCall.length != 0) {
            // Whether it worked is seen at the signer's address.
            (bool ignored,) = factory.call(factoryCall);
            ignored;
        }
        uint256 answer = _asks(signer, digest, signature) ? uint256(bytes32(IERC1271.isValidSignature.selector)) : 0;
        assembly ("memory-safe") {
            mstore(0, answer)
            return(0, 32)
        }
    }

    function _asks(address signer, bytes32 digest, bytes memory signature) private view returns (bool) {
        bytes memory question = abi.encodeCall(IERC1271.isValidSignature, (digest, signature));
        bool called;
        bytes32 reply;
        uint256 size;
        // By hand: a wallet that returns a megabyte must not fill this call's memory. No code, no reply: a no as well.
        assembly ("memory-safe") {
            called := staticcall(gas(), signer, add(question, 32), mload(question), 0, 32)
            reply := mload(0)
            size := returndatasize()
        }
        return called && size >= 32 && reply == bytes32(IERC1271.isValidSignature.selector);
    }
}
