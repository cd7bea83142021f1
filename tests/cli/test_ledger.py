"""A Ledger from the command line's side: the commands byte for byte, what comes back, and what can go wrong.

The transport is the real library, over TCP to a stand-in, and to the emulator `speculos` where it is installed.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from held_ports import free_port
from keyquorum.algebra.field import Q
from keyquorum.auth import wallet_key
from keyquorum.auth.method import Context, prove
from keyquorum.auth.network import network_id
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.cli import ledger
from keyquorum.client.errors import KeyquorumError, Misconfigured, Refused
from software_ledger import FIRST_PATH, SECOND_PATH, SoftwareLedger, Status

HEAD = "058000002c8000003c800000000000000000000000"
NOW = 1_800_000_000


@pytest.fixture
def device() -> SoftwareLedger:
    return SoftwareLedger()


@pytest.fixture
def trouble() -> Callable[..., Any]:
    """`with trouble("code", kind)`: an error that says what is wrong and what to do."""

    class Trouble:
        def __init__(self, code: str, kind: type[KeyquorumError] = Misconfigured) -> None:
            self.code, self.kind = code, kind

        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            assert error is not None, f"nothing went wrong, expected {self.code}"
            if not isinstance(error, KeyquorumError):
                return False
            assert (error.code, type(error)) == (self.code, self.kind) and error.message and error.hint
            return True

    return Trouble


# ---- the commands ---------------------------------------------------------------------------------------------------


def test_the_address_is_asked_for_as_the_document_says(device: SoftwareLedger) -> None:
    found = ledger.Ledger(device)
    assert found.address().hex() == device.keys[FIRST_PATH].address[2:].lower()
    assert found.address(show=True) and device.shown == [device.keys[FIRST_PATH].address]
    assert [apdu.hex() for apdu in device.apdus] == ["e002000015" + HEAD, "e002010015" + HEAD]


def test_another_path_is_another_account(device: SoftwareLedger) -> None:
    found = ledger.Ledger(device, "m/44'/60'/0'/0/1")
    assert found.address().hex() == device.keys[SECOND_PATH].address[2:].lower()


@pytest.mark.parametrize("size", [0, 1, 229, 230, 231, 484, 485, 486, 1000, 6000])
def test_a_text_is_sent_in_chunks_and_its_signature_recovers(device: SoftwareLedger, size: int) -> None:
    text = ("Keyquorum login, äöü " * 400)[:size]
    signature = ledger.Ledger(device).sign_text(text)
    assert device.shown == [text]
    assert Account.recover_message(encode_defunct(text=text), signature=signature) == device.keys[FIRST_PATH].address
    commands = [apdu for apdu in device.apdus if apdu[1] == 0x08]
    content = text.encode()
    assert commands[0][:5].hex() == f"e0080000{len(commands[0]) - 5:02x}"
    assert commands[0][5:30].hex() == HEAD + f"{len(content):08x}"
    assert all(apdu[:4].hex() == "e0088000" and 5 < len(apdu) <= 260 for apdu in commands[1:])
    assert commands[0][30:] + b"".join(apdu[5:] for apdu in commands[1:]) == content


def test_typed_data_is_sent_as_two_hashes(device: SoftwareLedger) -> None:
    domain, message = b"\x11" * 32, b"\x22" * 32
    digest = wallet_key.keccak(b"\x19\x01" + domain + message)
    signature = ledger.Ledger(device).sign_typed_hashes(domain, message, digest)
    assert device.apdus[0].hex() == "e00c000055" + HEAD + domain.hex() + message.hex()
    assert Account._recover_hash(digest, signature=signature) == device.keys[FIRST_PATH].address


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("m/44'/60'/0'/0/0", HEAD),
        ("44'/60'/0'/0/0", HEAD),
        ("m/44'/60'/2147483647'/0/7", "058000002c8000003cffffffff0000000000000007"),
        ("m/0", "0100000000"),
    ],
)
def test_a_path_is_written_as_the_document_says(path: str, encoded: str) -> None:
    assert ledger.encode_path(path).hex() == encoded


@pytest.mark.parametrize("path", ["", "m", "m/", "m/44h", "m/-1", "m/2147483648", "m/1//2", "m/²", "m" + "/1" * 11])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        ledger.encode_path(path)


# ---- what can go wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (0x5515, "device_locked", Misconfigured),
        (0x6982, "device_locked", Misconfigured),
        (0x6D00, "wrong_app", Misconfigured),
        (0x6E00, "wrong_app", Misconfigured),
        (0x6E01, "wrong_app", Misconfigured),
        (0x6511, "wrong_app", Misconfigured),
        (0x6A80, "device_rejects", Misconfigured),
        (0x6985, "device_refused", Refused),
        (0x6F00, "device_error", Misconfigured),
    ],
)
def test_each_status_says_what_to_do(
    device: SoftwareLedger, status: int, code: str, kind: type[KeyquorumError], trouble: Callable[..., Any]
) -> None:
    device.status = status
    with trouble(code, kind):
        ledger.Ledger(device).sign_text("x")


def test_a_person_who_says_no_is_believed(device: SoftwareLedger, trouble: Callable[..., Any]) -> None:
    device.confirm = False
    with trouble("device_refused", Refused):
        ledger.Ledger(device).sign_text("x")


class Answers:
    """A device that answers each instruction with fixed bytes, or raises."""

    def __init__(self, real: SoftwareLedger, instruction: int, answer: Any) -> None:
        self.real, self.instruction, self.answer = real, instruction, answer

    def exchange(self, apdu: bytes) -> bytes:
        if apdu[1] != self.instruction:
            return bytes(self.real.exchange(apdu))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return bytes(self.answer(bytes(self.real.exchange(apdu))))

    def close(self) -> None:
        pass


def high_s(answer: bytes) -> bytes:
    return bytes([55 - answer[0]]) + answer[1:33] + (Q - int.from_bytes(answer[33:], "big")).to_bytes(32, "big")


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: b"",
        lambda answer: answer[:-1],
        lambda answer: answer + b"\0",
        lambda answer: bytes([55 - answer[0]]) + answer[1:],
        lambda answer: answer[:1] + bytes(64),
        lambda answer: bytes([answer[0], answer[1] ^ 1]) + answer[2:],
        high_s,
    ],
)
def test_a_signature_that_does_not_hold_is_an_error_here(
    device: SoftwareLedger, change: Callable[[bytes], bytes], trouble: Callable[..., Any]
) -> None:
    with trouble("device_answer"):
        ledger.Ledger(Answers(device, 0x08, change)).sign_text("x")


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: b"",
        lambda answer: answer[:66],
        lambda answer: answer[:-1],
        lambda answer: answer + b"0",
        lambda answer: b"\x40" + answer[1:],
        lambda answer: answer[:-1] + (b"0" if answer[-1:] != b"0" else b"1"),
        lambda answer: answer[:66] + b"\x29" + answer[67:],
    ],
)
def test_an_address_that_does_not_belong_to_its_key_is_an_error(
    device: SoftwareLedger, change: Callable[[bytes], bytes], trouble: Callable[..., Any]
) -> None:
    with trouble("device_answer"):
        ledger.Ledger(Answers(device, 0x02, change)).address()


@pytest.mark.parametrize("error", [OSError(5, "gone"), struct.error("short"), BaseException("Error while writing")])
def test_a_cable_that_is_pulled_is_an_error(
    device: SoftwareLedger, error: BaseException, trouble: Callable[..., Any]
) -> None:
    with trouble("device_lost"):
        ledger.Ledger(Answers(device, 0x02, error)).address()


def test_ctrl_c_stays_ctrl_c(device: SoftwareLedger) -> None:
    with pytest.raises(KeyboardInterrupt):
        ledger.Ledger(Answers(device, 0x02, KeyboardInterrupt())).address()
    with pytest.raises(ZeroDivisionError):
        ledger.Ledger(Answers(device, 0x02, ZeroDivisionError())).address()


def test_without_the_library_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., Any]
) -> None:
    monkeypatch.delenv("LEDGER_PROXY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ledgerblue.comm", None)
    with trouble("no_ledger_library"), ledger.open_ledger():
        pytest.fail("there is no library")


def test_without_a_device_it_says_what_to_plug_in(monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., Any]) -> None:
    monkeypatch.delenv("LEDGER_PROXY_ADDRESS", raising=False)
    library = ModuleType("ledgerblue.comm")

    def nothing() -> None:
        raise Status(0x6F00)

    library.getDongle = nothing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ledgerblue.comm", library)
    with trouble("no_device"), ledger.open_ledger():
        pytest.fail("there is no device")


def test_the_device_is_let_go_after_an_error(monkeypatch: pytest.MonkeyPatch, device: SoftwareLedger) -> None:
    monkeypatch.delenv("LEDGER_PROXY_ADDRESS", raising=False)
    library = ModuleType("ledgerblue.comm")
    library.getDongle = lambda: device  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ledgerblue.comm", library)
    with pytest.raises(ZeroDivisionError), ledger.open_ledger():
        raise ZeroDivisionError
    assert device.closed


# ---- a login --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", wallet_key.FORMS)
async def test_a_login_signed_on_the_device_is_accepted_by_a_node(device: SoftwareLedger, form: str) -> None:
    statement = Statement(
        network_id(31337, bytes(20)), SessionPrivateKey.generate().public, ("*",), (2,), NOW + 900, "ab" * 16,
        "0x" + "11" * 32,
    )  # fmt: skip
    proof = ledger.sign_statement(ledger.Ledger(device), statement, form, NOW)
    proven = await prove("wallet-key", proof, statement, Context(now=NOW, block_time=NOW))
    assert proven.id.hex() == device.keys[FIRST_PATH].address[2:].lower()
    assert len(device.shown) == 1


# ---- the transport --------------------------------------------------------------------------------------------------


def test_the_library_reaches_a_device_over_tcp(
    monkeypatch: pytest.MonkeyPatch, device: SoftwareLedger, trouble: Callable[..., Any]
) -> None:
    pytest.importorskip("ledgerblue.commTCP", reason="the extra keyquorum[ledger] is not installed")
    monkeypatch.setenv("LEDGER_PROXY_ADDRESS", "127.0.0.1")
    with device.serve() as server:
        monkeypatch.setenv("LEDGER_PROXY_PORT", str(server.port))
        with ledger.open_ledger() as found:
            assert found.sign_text("hello " * 100)
            device.confirm = False
            with trouble("device_refused", Refused):
                found.sign_text("no")
    with trouble("no_device"), ledger.open_ledger():
        pytest.fail("nobody listens any more")


def _speculos() -> tuple[str, str, str] | None:
    program = os.environ.get("KEYQUORUM_SPECULOS") or shutil.which("speculos")
    app, qemu = os.environ.get("KEYQUORUM_SPECULOS_APP"), shutil.which("qemu-arm-static")
    return (program, app, qemu) if program and app and qemu else None


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[int]:
    """The TCP port of a running emulator with the app in KEYQUORUM_SPECULOS_APP."""
    found = _speculos()
    assert found is not None
    port = free_port()
    command = [found[0], "--display", "headless", "--apdu-port", str(port), "--api-port", "0", found[1]]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=tmp_path)
        try:
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            yield port
        finally:
            os.killpg(process.pid, 9)
            process.wait()


@pytest.mark.xfail(
    _speculos() is None,
    run=False,
    reason="speculos, qemu-arm-static or an app for it is not installed (KEYQUORUM_SPECULOS, KEYQUORUM_SPECULOS_APP)",
)
def test_the_library_reaches_an_emulated_ledger_whose_app_is_another(
    emulator: int, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., Any]
) -> None:
    """The public boilerplate app: it answers the operating system's question, and it is not the Ethereum app."""
    monkeypatch.setenv("LEDGER_PROXY_ADDRESS", "127.0.0.1")
    monkeypatch.setenv("LEDGER_PROXY_PORT", str(emulator))
    with ledger.open_ledger() as found:
        name_and_version = bytes(found._device.exchange(bytes.fromhex("b001000000")))
        assert name_and_version[0] == 1 and name_and_version[2 : 2 + name_and_version[1]] == b"Boilerplate"
        with trouble("wrong_app"):
            found.address()
        with trouble("wrong_app"):
            found.sign_text("x" * 1000)
