// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Endpoint: the only texts that a node may put on the chain
/// @notice `http://host`, `https://host` or either with `:port`, and hosts alone; each in its one normal form.
/// @dev A host is an IPv4 address in plain decimal, or a DNS name: at most 253 characters, labels of 1 to 63 of a to z, 0 to
/// 9 and -, no - at either end of a label, the last label beginning with a letter. A port is 1 to 65535 without leading
/// zeros, and not the scheme's own. So there is nothing to be escaped, decoded, mapped or folded by whoever reads it.
library Endpoint {
    uint256 private constant MAX_HOST = 253;
    uint256 private constant MAX_LABEL = 63;

    /// @return ok Whether it is a URL in normal form
    /// @return ip Its IPv4 address, big-endian, or 0 if the host is a name
    /// @return port Its port, the scheme's own if it names none
    function parseUrl(bytes memory text) internal pure returns (bool ok, uint32 ip, uint16 port) {
        uint256 start;
        (start, port) = _scheme(text);
        if (start == 0) return (false, 0, 0);
        uint256 end = start;
        while (end < text.length && text[end] != ":") ++end;
        (ok, ip) = _host(text, start, end);
        if (!ok || end == text.length) return (ok, ip, port);
        (bool number, uint256 value) = _number(text, end + 1, text.length, type(uint16).max);
        ok = number && value != 0 && value != port;
        return (ok, ip, uint16(value));
    }

    function isHost(bytes memory text) internal pure returns (bool ok) {
        (ok,) = _host(text, 0, text.length);
    }

    function _scheme(bytes memory text) private pure returns (uint256 length, uint16 port) {
        if (_startsWith(text, "https://")) return (8, 443);
        if (_startsWith(text, "http://")) return (7, 80);
    }

    function _startsWith(bytes memory text, bytes memory prefix) private pure returns (bool) {
        if (text.length < prefix.length) return false;
        for (uint256 i = 0; i < prefix.length; ++i) {
            if (text[i] != prefix[i]) return false;
        }
        return true;
    }

    function _host(bytes memory text, uint256 start, uint256 end) private pure returns (bool ok, uint32 ip) {
        if (end == start || end - start > MAX_HOST) return (false, 0);
        uint256 label = start;
        for (uint256 i = start; i <= end; ++i) {
            if (i != end && text[i] != ".") {
                bool digit = text[i] >= "0" && text[i] <= "9";
                bool hyphen = text[i] == "-";
                if (!digit && !hyphen && (text[i] < "a" || text[i] > "z")) return (false, 0);
                if (hyphen && i == label) return (false, 0);
                continue;
            }
            if (i == label || i - label > MAX_LABEL || text[i - 1] == "-") return (false, 0);
            if (i != end) label = i + 1;
        }
        if (text[label] <= "9") return _ipv4(text, start, end);
        return (true, 0);
    }

    function _ipv4(bytes memory text, uint256 start, uint256 end) private pure returns (bool ok, uint32 ip) {
        for (uint256 octet = 0; octet < 4; ++octet) {
            uint256 stop = start;
            while (stop < end && text[stop] != ".") ++stop;
            if ((octet == 3) != (stop == end)) return (false, 0);
            uint256 value;
            (ok, value) = _number(text, start, stop, 255);
            if (!ok) return (false, 0);
            ip = (ip << 8) | uint32(value);
            start = stop + 1;
        }
    }

    /// @dev The decimal number in text[start:end], without leading zeros, at most `limit`.
    function _number(bytes memory text, uint256 start, uint256 end, uint256 limit)
        private
        pure
        returns (bool ok, uint256 value)
    {
        if (start >= end) return (false, 0);
        for (uint256 i = start; i < end; ++i) {
            if (text[i] < "0" || text[i] > "9" || (i != start && value == 0)) return (false, 0);
            value = value * 10 + uint8(text[i]) - 48;
            if (value > limit) return (false, 0);
        }
        return (true, value);
    }
}
