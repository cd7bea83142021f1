// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

enum ChangeKind {
    AddMethod,
    AddScope,
    LowerDelay,
    Transfer,
    Renounce
}

/// @dev A loosening that has been recorded and does not count before `activeAt`. `subject` is the id of the method, the
/// new delay in seconds, or the receiver; `scopeId` is set for AddScope only.
struct Change {
    uint64 id;
    uint64 activeAt;
    ChangeKind kind;
    uint8 scopeId;
    uint256 subject;
}

/// @title PendingChanges: the short list of what one token's owner has announced
/// @dev Nothing has to be executed when a change becomes active: whoever reads takes what has been recorded and leaves
/// out what is still in this list with `activeAt` in the future. Old entries are swept out by the next write. The list
/// is bounded, so that sweeping always fits into a transaction and one announcement cannot hide among thousands.
library PendingChanges {
    uint256 internal constant MAX_PENDING = 64;
    /// @dev How long an announced transfer may be made, once it may.
    uint256 internal constant TRANSFER_WINDOW = 7 days;

    error TooManyPendingChanges();

    function waits(Change memory change) internal view returns (bool) {
        return block.timestamp < change.activeAt;
    }

    /// @notice Whether an announced transfer may be made now.
    function isOpen(Change memory change) internal view returns (bool) {
        return change.kind == ChangeKind.Transfer && !waits(change)
            && block.timestamp <= change.activeAt + TRANSFER_WINDOW;
    }

    function append(Change[] storage changes, Change memory change) internal {
        if (changes.length == MAX_PENDING) revert TooManyPendingChanges();
        changes.push(change);
    }

    /// @notice Take out entry `index`; the last one moves to its place, so loop downwards.
    function drop(Change[] storage changes, uint256 index) internal {
        uint256 last = changes.length - 1;
        if (index != last) changes[index] = changes[last];
        changes.pop();
    }
}
