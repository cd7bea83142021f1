"""A stand-in for a Ledger with its Ethereum app: software keys behind the app's documented commands, over TCP.

It checks the form of every command as the document has it (class, instruction, path, lengths, chunks) and answers with
a status word otherwise, so a command that a device would refuse is refused here. What only a real device shows (its
screen, its buttons, USB) is not here: `confirm` stands for the person.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_hash.auto import keccak

OK, LOCKED, DENIED, WRONG_LENGTH, INVALID, UNKNOWN = 0x9000, 0x5515, 0x6985, 0x6700, 0x6A80, 0x6D00
FIRST_PATH = bytes([5]) + b"".join(n.to_bytes(4, "big") for n in (2**31 + 44, 2**31 + 60, 2**31, 0, 0))
SECOND_PATH = FIRST_PATH[:-1] + b"\x01"


class Status(Exception):
    """What `ledgerblue` raises: `sw` is the status word."""

    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04x}")
        self.sw = sw


@dataclass
class SoftwareLedger:
    """Use directly as a device, or `serve` it; `shown` is what the person would have seen."""

    keys: dict[bytes, Any] = field(
        default_factory=lambda: {
            FIRST_PATH: Account.from_key(b"\x61" * 32),
            SECOND_PATH: Account.from_key(b"\x62" * 32),
        }
    )
    confirm: bool = True
    status: int | None = None
    app: bool = True
    shown: list[str] = field(default_factory=list)
    apdus: list[bytes] = field(default_factory=list)
    closed: bool = False
    _message: tuple[bytes, int, bytes] | None = None

    def exchange(self, apdu: bytes) -> bytearray:
        self.apdus.append(bytes(apdu))
        if self.status is not None:
            raise Status(self.status)
        if not self.app or apdu[0] != 0xE0:
            raise Status(0x6E00)
        if len(apdu) < 5 or len(apdu) - 5 != apdu[4]:
            raise Status(WRONG_LENGTH)
        handlers = {0x02: self._address, 0x08: self._personal, 0x0C: self._typed}
        if apdu[1] not in handlers:
            raise Status(UNKNOWN)
        return bytearray(handlers[apdu[1]](apdu[2], apdu[3], bytes(apdu[5:])))

    def close(self) -> None:
        self.closed = True

    def _path(self, data: bytes) -> tuple[Any, bytes]:
        size = 1 + 4 * data[0] if data else 0
        if not 1 <= size <= 41 or data[:size] not in self.keys:
            raise Status(INVALID)
        return self.keys[data[:size]], data[size:]

    def _person(self, what: str) -> None:
        self.shown.append(what)
        if not self.confirm:
            raise Status(DENIED)

    def _address(self, p1: int, p2: int, data: bytes) -> bytes:
        account, rest = self._path(data)
        if rest or p1 > 1 or p2 > 1:
            raise Status(INVALID)
        if p1:
            self._person(account.address)
        public = b"\x04" + account._key_obj.public_key.to_bytes()
        return bytes([65]) + public + bytes([40]) + account.address[2:].encode()

    def _personal(self, p1: int, p2: int, data: bytes) -> bytes:
        if p1 == 0x00:
            account, rest = self._path(data)
            self._message = (account, int.from_bytes(rest[:4], "big"), rest[4:])
        elif p1 == 0x80 and self._message is not None:
            account, size, so_far = self._message
            self._message = (account, size, so_far + data)
        else:
            raise Status(INVALID)
        account, size, content = self._message
        if len(content) > size or p2:
            raise Status(INVALID)
        if len(content) < size:
            return b""
        self._message = None
        self._person(content.decode())
        return self._vrs(account.sign_message(encode_defunct(content)))

    def _typed(self, p1: int, p2: int, data: bytes) -> bytes:
        account, rest = self._path(data)
        if p1 or p2 or len(rest) != 64:
            raise Status(INVALID)
        self._person(f"domain {rest[:32].hex()} message {rest[32:].hex()}")
        return self._vrs(account.unsafe_sign_hash(keccak(b"\x19\x01" + rest)))

    @staticmethod
    def _vrs(signed: Any) -> bytes:
        signature = bytes(signed.signature)
        return signature[64:] + signature[:64]

    def serve(self) -> TcpLedger:
        return TcpLedger(self)


class TcpLedger:
    """The stand-in behind the emulator's TCP protocol: length and APDU in, length, data and status out."""

    def __init__(self, ledger: SoftwareLedger) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while (head := _read(self.request, 4)) is not None:
                    apdu = _read(self.request, int.from_bytes(head, "big")) or b""
                    try:
                        data, status = bytes(ledger.exchange(apdu)), OK
                    except Status as error:
                        data, status = b"", error.sw
                    self.request.sendall(len(data).to_bytes(4, "big") + data + status.to_bytes(2, "big"))

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> TcpLedger:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _read(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            return None
        data += more
    return data
