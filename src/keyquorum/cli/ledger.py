"""A Ledger as the key that logs in: the commands of its Ethereum app, over a transport that is not ours.

The transport (USB, or TCP to the emulator with LEDGER_PROXY_ADDRESS and LEDGER_PROXY_PORT) is the library `ledgerblue`,
the optional extra `ledger`. On top of it three commands of the app are enough, encoded here after its public
document (LedgerHQ/app-ethereum, doc/apdu.md): GET ETH PUBLIC ADDRESS (0x02), SIGN ETH PERSONAL MESSAGE (0x08) and
SIGN ETH EIP 712 (0x0C, version 0). A command is E0 INS P1 P2 length data; data begins with the BIP-32 path.

Nothing is believed that can be computed: the signature that comes back is checked against the address first, so that a
wrong account or a broken cable is an error here and not a refusal by every node.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol

from keyquorum.auth import wallet_key, wallet_signature
from keyquorum.auth.statement import Statement
from keyquorum.client.errors import KeyquorumError, Misconfigured, Refused
from keyquorum.evm.address import address_of_public, to_checksum
from keyquorum.refusal import Invalid

DEFAULT_PATH = "m/44'/60'/0'/0/0"
MAX_DEPTH = 10
CLASS = 0xE0
GET_ADDRESS, SIGN_PERSONAL_MESSAGE, SIGN_EIP712_HASHED = 0x02, 0x08, 0x0C
FIRST, MORE = 0x00, 0x80
MAX_DATA = 255
HARDENED = 2**31

# Status words that a person can do something about: the error's code, what is wrong, what to do.
_TROUBLE = {
    0x5515: ("device_locked", "the Ledger is locked", "unlock it with its PIN and try again"),
    0x6982: ("device_locked", "the Ledger is locked", "unlock it with its PIN and try again"),
    0x6D00: ("wrong_app", "the Ledger's Ethereum app is not open", "open the Ethereum app on the device"),
    0x6E00: ("wrong_app", "the Ledger's Ethereum app is not open", "open the Ethereum app on the device"),
    0x6E01: ("wrong_app", "the Ledger's Ethereum app is not open", "open the Ethereum app on the device"),
    0x6511: ("wrong_app", "the Ledger's Ethereum app is not open", "open the Ethereum app on the device"),
    0x6A80: ("device_rejects", "the Ledger does not accept this", "update the Ethereum app, or try the other --form"),
}
_DENIED = 0x6985


class Device(Protocol):
    """What a transport must do: send one command, return the answer's data, raise with `sw` for a bad status."""

    def exchange(self, apdu: bytes) -> bytes | bytearray:
        """Send one APDU and wait for the answer, as long as the person at the device takes."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


class Ledger:
    """The Ethereum app of one device; `path` is the BIP-32 path of the account, by default the first one."""

    def __init__(self, device: Device, path: str = DEFAULT_PATH) -> None:
        self._device = device
        self._path = encode_path(path)
        self._address: bytes | None = None

    def address(self, show: bool = False) -> bytes:
        """Return the account's 20 bytes; with `show` the person must confirm it on the screen first."""
        answer = self._send(GET_ADDRESS, int(show), self._path)
        key_size = answer[0] if answer else 0
        public_key, text = answer[1 : 1 + key_size], answer[2 + key_size :]
        if len(public_key) != 65 or len(text) != 40 or answer[1 + key_size] != len(text):
            raise _nonsense("an address")
        address = address_of_public(public_key)
        if text.lower() != address.hex().encode():
            raise _nonsense("an address that belongs to its public key")
        self._address = address
        return address

    def sign_text(self, text: str) -> bytes:
        """Let the person read and sign a personal message (EIP-191); return 65 bytes r || s || v."""
        content = text.encode()
        data = self._path + len(content).to_bytes(4, "big") + content
        answer = b""
        for start in range(0, len(data), MAX_DATA):
            answer = self._send(SIGN_PERSONAL_MESSAGE, MORE if start else FIRST, data[start : start + MAX_DATA])
        return self._signature(answer, wallet_signature.message_hash(content))

    def sign_typed_hashes(self, domain: bytes, message: bytes, digest: bytes) -> bytes:
        """Let the person sign typed data of which the device shows only the two hashes; return r || s || v."""
        return self._signature(self._send(SIGN_EIP712_HASHED, FIRST, self._path + domain + message), digest)

    def _signature(self, answer: bytes, digest: bytes) -> bytes:
        if len(answer) != 65:
            raise _nonsense("a signature")
        signature = answer[1:] + answer[:1]
        address = self._address or self.address()
        try:
            signer = wallet_signature.recover(digest, signature)
        except Invalid:
            raise _nonsense("a signature that holds") from None
        if signer != address:
            raise _nonsense(f"a signature of {to_checksum(address)}")
        return signature

    def _send(self, instruction: int, first: int, data: bytes) -> bytes:
        apdu = bytes([CLASS, instruction, first, 0, len(data)]) + data
        try:
            return bytes(self._device.exchange(apdu))
        except (OSError, struct.error) as error:
            raise _lost() from error
        except Exception as error:
            status = getattr(error, "sw", None)
            if not isinstance(status, int):
                raise
            raise _trouble(status) from None
        except BaseException as error:
            # The library's USB transport raises the bare class when a write fails.
            if type(error) is BaseException:
                raise _lost() from error
            raise


def sign_statement(ledger: Ledger, statement: Statement, form: str, issued_at: int) -> dict[str, object]:
    """Let the person at the device sign a login; return the proof for method `wallet-key`.

    Form `eip191` is a text that the screen shows in full; of `eip712` it shows two hashes (`wallet_key.typed_hashes`).
    """
    address = ledger.address()
    if form == "eip191":
        signature = ledger.sign_text(wallet_key.build_text(statement, address, issued_at))
    else:
        hashes = wallet_key.typed_hashes(statement, address, issued_at)
        digest = wallet_key.digest_of(form, statement, address, issued_at)
        signature = ledger.sign_typed_hashes(hashes.domain, hashes.message, digest)
    return {
        "form": form,
        "address": to_checksum(address),
        "signature": "0x" + signature.hex(),
        "issued_at": issued_at,
    }


def encode_path(path: str) -> bytes:
    """Return a BIP-32 path ("m/44'/60'/0'/0/0") as the app reads it: the number of steps, then 4 bytes each."""
    steps = path.removeprefix("m/").split("/")
    numbers = []
    for step in steps:
        digits = step.removesuffix("'")
        if not (digits.isascii() and digits.isdecimal()) or int(digits) >= HARDENED:
            raise ValueError(f"{path} is not a BIP-32 path like {DEFAULT_PATH}")
        numbers.append(int(digits) + (HARDENED if step.endswith("'") else 0))
    if len(numbers) > MAX_DEPTH:
        raise ValueError(f"a path has at most {MAX_DEPTH} steps")
    return bytes([len(numbers)]) + b"".join(number.to_bytes(4, "big") for number in numbers)


@contextmanager
def open_ledger(path: str = DEFAULT_PATH) -> Iterator[Ledger]:
    """Find the device and hand out its Ethereum app; raise `KeyquorumError` saying what to plug, open or install."""
    device = _find()
    try:
        yield Ledger(device, path)
    finally:
        device.close()


def _find() -> Device:
    server = os.environ.get("LEDGER_PROXY_ADDRESS")
    try:
        library: Any = import_module("ledgerblue.commTCP" if server else "ledgerblue.comm")
    except ImportError:
        raise Misconfigured(
            "no_ledger_library",
            "the library that talks to a Ledger is not installed",
            "install this checkout with its extra: pip install '.[ledger]' (see docs/auth/ledger.md)",
        ) from None
    try:
        found: Device = (
            library.getDongle(server, int(os.environ.get("LEDGER_PROXY_PORT", "9999")))
            if server
            else library.getDongle()
        )
    except ValueError:
        raise
    except Exception as error:
        # Each platform's USB library has errors of its own.
        raise Misconfigured(
            "no_device",
            f"there is no Ledger to talk to ({type(error).__name__})",
            "plug it in, unlock it, open its Ethereum app, and close other programs that use it;"
            " on Linux install Ledger's udev rules",
        ) from None
    return found


def _trouble(status: int) -> KeyquorumError:
    if status == _DENIED:
        return Refused("device_refused", "it was refused on the Ledger", "confirm on the device to log in", status=0)
    unknown = ("device_error", "the Ledger could not do it", "unlock it, open its Ethereum app, and try again")
    code, message, hint = _TROUBLE.get(status, unknown)
    return Misconfigured(code, f"{message} (status {status:04x})", hint)


def _lost() -> KeyquorumError:
    return Misconfigured("device_lost", "the connection to the Ledger broke", "plug it in again and retry")


def _nonsense(expected: str) -> KeyquorumError:
    return Misconfigured(
        "device_answer",
        f"the Ledger's answer is not {expected}",
        "open the Ethereum app itself (not one of another chain), and update it",
    )
