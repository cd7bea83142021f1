// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Ipv4Url: the IPv4 address and port in a URL
/// @notice Clients of the earlier network know a node only as a 32-bit address and a port, never as a name.
library Ipv4Url {
    /// @notice Read `http://a.b.c.d`, `https://a.b.c.d:port`, with or without a path.
    /// @return ip The address, big-endian, or 0 if the host is anything else
    /// @return port The port, by default 80 or 443, or 0 together with `ip`
    function parse(string memory url) internal pure returns (uint32 ip, uint16 port) {
        bytes memory text = bytes(url);
        (uint256 cursor, uint256 number) = _scheme(text);
        if (cursor == 0) return (0, 0);
        uint256 fallbackPort = number;
        uint256 host = 0;
        for (uint256 octet = 0; octet < 4; ++octet) {
            if (octet != 0 && !_is(text, cursor++, ".")) return (0, 0);
            bool ok;
            (ok, number, cursor) = _number(text, cursor, 255);
            if (!ok) return (0, 0);
            host = (host << 8) | number;
        }
        number = fallbackPort;
        if (_is(text, cursor, ":")) {
            bool ok;
            (ok, number, cursor) = _number(text, cursor + 1, type(uint16).max);
            if (!ok || number == 0) return (0, 0);
        }
        if (cursor != text.length && !_is(text, cursor, "/")) return (0, 0);
        return (uint32(host), uint16(number));
    }

    function _scheme(bytes memory text) private pure returns (uint256 length, uint256 port) {
        if (_startsWith(text, "https://")) return (8, 443);
        if (_startsWith(text, "http://")) return (7, 80);
        return (0, 0);
    }

    function _startsWith(bytes memory text, bytes memory prefix) private pure returns (bool) {
        if (text.length < prefix.length) return false;
        for (uint256 i = 0; i < prefix.length; ++i) {
            if (text[i] != prefix[i]) return false;
        }
        return true;
    }

    function _is(bytes memory text, uint256 cursor, bytes1 character) private pure returns (bool) {
        return cursor < text.length && text[cursor] == character;
    }

    /// @dev A decimal number without leading zeros, at most `limit`.
    function _number(bytes memory text, uint256 start, uint256 limit)
        private
        pure
        returns (bool ok, uint256 value, uint256 cursor)
    {
        cursor = start;
        while (cursor < text.length && text[cursor] >= "0" && text[cursor] <= "9") {
            if (cursor != start && value == 0) return (false, 0, cursor);
            value = value * 10 + uint8(text[cursor]) - 48;
            if (value > limit) return (false, 0, cursor);
            ++cursor;
        }
        ok = cursor != start;
    }
}
