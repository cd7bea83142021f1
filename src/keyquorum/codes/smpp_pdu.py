"""SMPP 3.4 on the wire (SMPP Protocol Specification v3.4, issue 1.2): the few messages that sending needs.

A PDU is a header of four 32-bit numbers (length, command, status, sequence) and a body. Texts are in the characters
that ASCII and the GSM alphabet (3GPP 23.038) share, so data_coding 0 means the same at every message centre; a text
of more than 160 is cut into parts that the phone joins (23.040 section 9.2.3.24.1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

BIND_TRANSCEIVER, SUBMIT_SM, DELIVER_SM, UNBIND, ENQUIRE_LINK = 0x09, 0x04, 0x05, 0x06, 0x15
RESPONSE = 0x8000_0000
GENERIC_NACK = 0x8000_0000
OK, UNKNOWN_COMMAND = 0, 0x03
HEADER_BYTES = 16
MAX_PDU = 64 * 1024
SINGLE, PART = 160, 153
_VERSION = 0x34
_TON_INTERNATIONAL, _TON_NETWORK, _TON_LETTERS, _NPI_E164, _NPI_NONE = 1, 3, 5, 1, 0
_HAS_HEADER = 0x40
# Relative time: 10 minutes. A phone that was off must not get a stale code.
_VALID_FOR = "000000001000000R"


@dataclass(frozen=True, slots=True)
class Pdu:
    """One message; `body` without the header."""

    command: int
    status: int
    sequence: int
    body: bytes = b""

    def encode(self) -> bytes:
        """Return its bytes."""
        length = HEADER_BYTES + len(self.body)
        return struct.pack(">IIII", length, self.command, self.status, self.sequence) + self.body


def decode(data: bytes) -> Pdu:
    """Return the message in `data`, header included; raise `ValueError` when it is none."""
    if len(data) < HEADER_BYTES:
        raise ValueError("a PDU has at least 16 bytes")
    length, command, status, sequence = struct.unpack_from(">IIII", data)
    if length != len(data):
        raise ValueError("the PDU's length is not its length")
    return Pdu(command, status, sequence, data[HEADER_BYTES:])


def bind(sequence: int, system_id: str, password: str) -> Pdu:
    """Return bind_transceiver (section 4.1.5). The password has at most 8 characters there."""
    body = _text(system_id, 16) + _text(password, 9) + _text("", 13) + bytes([_VERSION, 0, 0]) + _text("", 41)
    return Pdu(BIND_TRANSCEIVER, OK, sequence, body)


def submit(sequence: int, sender: str, address: str, part: bytes, *, has_header: bool) -> Pdu:
    """Return submit_sm (section 4.4.1) of one part, for `address` in E.164; it may be delivered for 10 minutes."""
    kind, plan, source = _source(sender)
    body = (
        _text("", 6)
        + bytes([kind, plan])
        + _text(source, 21)
        + bytes([_TON_INTERNATIONAL, _NPI_E164])
        + _text(address.removeprefix("+"), 21)
        + bytes([_HAS_HEADER if has_header else 0, 0, 0])
        + _text("", 17)
        + _text(_VALID_FOR, 17)
        + bytes([0, 0, 0, 0, len(part)])
        + part
    )
    return Pdu(SUBMIT_SM, OK, sequence, body)


def parts_of(text: str, reference: int) -> list[bytes]:
    """Return the short_messages for `text`: one without a header, or up to 255 with one and `reference` (a byte)."""
    data = text.encode("ascii")
    if any(octet in b"@$_[]{}\\^~|`" or not (octet == 10 or 32 <= octet < 127) for octet in data):
        raise ValueError("the text has characters that are elsewhere in the GSM alphabet")
    if len(data) <= SINGLE:
        return [data]
    pieces = [data[i : i + PART] for i in range(0, len(data), PART)]
    return [bytes([5, 0, 3, reference, len(pieces), number]) + piece for number, piece in enumerate(pieces, 1)]


def _source(sender: str) -> tuple[int, int, str]:
    if sender.startswith("+"):
        return _TON_INTERNATIONAL, _NPI_E164, sender[1:]
    if sender.isdigit():
        return _TON_NETWORK, _NPI_NONE, sender
    return _TON_LETTERS, _NPI_NONE, sender


def _text(value: str, size: int) -> bytes:
    data = value.encode("ascii")
    if len(data) >= size or 0 in data:
        raise ValueError(f"a text of at most {size - 1} characters")
    return data + b"\0"
