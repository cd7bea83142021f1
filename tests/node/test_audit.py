"""The record of decisions: what stands in a line, what never does, and what a full disk does to it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from node_world import until

from keyquorum.node import api
from keyquorum.node.metrics import Metrics
from keyquorum.node.services import audit
from keyquorum.node.services.audit import (
    FAILED,
    FAILURES,
    GRANTED,
    LOGINS,
    REFUSAL_SECONDS,
    REFUSALS,
    REFUSED,
    Audit,
    Entry,
    note,
    one_line,
)
from keyquorum.node.settings.config import AuditSection
from keyquorum.refusal import UNAVAILABLE, Refusal
from keyquorum.serving.buckets import Meter
from keyquorum.serving.shell import Limits

JSON = {"Content-Type": "application/json"}

CANARY = "canary-4f1c9b"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAUSE", 0.0)
    monkeypatch.setattr(audit, "RETRY_PAUSE", 0.01)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def files(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}*"))


async def test_a_line_says_who_what_and_how_it_ended(tmp_path: Path) -> None:
    record = Audit(tmp_path, AuditSection())
    record.start()
    begun = record.begin("sign", "10.1.2.3")
    note(session="thumb", methods=[(1, b"\x01" * 20), (20, b"\x02" * 32)])
    note(key="0xkey", summary="pay 1 ETH to 0xabc")
    record.end(begun, GRANTED)
    await record.close()
    (line,) = lines(tmp_path / "audit.log")
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "what": "sign", "decision": "granted", "session": "thumb", "key": "0xkey", "summary": "pay 1 ETH to 0xabc",
        "methods": ["1:0x" + "01" * 20, "20:0x" + "02" * 32], "address": "10.1.2.3",
    }  # fmt: skip


async def test_only_the_owner_of_the_node_may_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        (tmp_path / "refusals.log").touch(0o666)
        record = Audit(tmp_path, AuditSection())
        record.record(Entry("sign"), GRANTED)
        record.record(Entry("sign"), REFUSED, "not_permitted")
        record.start()
        await record.close()
    finally:
        os.umask(old)
    for name in ("audit.log", "refusals.log"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


async def test_a_symbolic_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere")
    record = Audit(tmp_path, AuditSection())
    record.record(Entry("sign"), GRANTED)
    record.start()
    await record.close()
    assert not (tmp_path / "elsewhere").exists()
    assert record.counts["writes_failed"]


async def test_refusals_stand_apart_so_that_a_flood_of_them_pushes_nothing_out(tmp_path: Path) -> None:
    record = Audit(tmp_path, AuditSection(max_bytes=65_536, files=2))
    record.start()
    record.record(Entry("sign", "10.0.0.1"), GRANTED)
    for number in range(20_000):
        record.record(Entry("sign", f"10.0.{number % 200}.1", summary="x" * 200), REFUSED, "bad_request")
        if number % 2000 == 0:
            await asyncio.sleep(0.01)
    await record.close()
    assert [line["decision"] for line in lines(tmp_path / "audit.log")] == [GRANTED]
    sizes = [path.stat().st_size for path in files(tmp_path, "refusals.log")]
    assert len(sizes) == 2
    assert max(sizes) <= 65_536


async def test_logins_stand_apart_so_that_new_identities_push_no_signature_out(tmp_path: Path) -> None:
    record = Audit(tmp_path, AuditSection(max_bytes=65_536, files=2))
    record.start()
    record.record(Entry("sign", "10.0.0.1"), GRANTED)
    record.record(Entry("certify"), GRANTED)
    for number in range(2000):
        for what in ("session", "commitment", "list", "revocation"):
            record.record(Entry(what, f"10.0.{number % 200}.1", "a session", summary="x" * 200), GRANTED)
    await record.close()
    assert [line["what"] for line in lines(tmp_path / "audit.log")] == ["sign", "certify"]
    assert {line["what"] for line in lines(tmp_path / "logins.log")} == LOGINS


async def test_what_waits_for_the_thread_when_the_log_is_closed_is_written(tmp_path: Path) -> None:
    record, go = Audit(tmp_path, AuditSection()), threading.Event()
    record._thread.submit(go.wait)
    record.record(Entry("sign"), GRANTED)
    writing = asyncio.create_task(record._write())
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    go.set()
    await record.close()
    assert [line["what"] for line in lines(tmp_path / "audit.log")] == ["sign"]


async def test_refusals_of_one_address_are_limited_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Audit(tmp_path, AuditSection())
    now = [100.0]
    record._refusals = Meter(REFUSALS, REFUSAL_SECONDS, lambda: now[0])
    for _ in range(1000):
        record.record(Entry("sign", "10.0.0.1"), REFUSED, "bad_request")
    record.record(Entry("sign", "10.0.0.2"), REFUSED, "bad_request")
    now[0] += 10
    record.record(Entry("sign", "10.0.0.1"), REFUSED, "bad_request")
    record.start()
    await record.close()
    found = lines(tmp_path / "refusals.log")
    assert [line["address"] for line in found].count("10.0.0.2") == 1
    assert len(found) == REFUSALS + 2
    assert found[-1]["unrecorded_before"] == 1000 - REFUSALS == record.counts["lines_unrecorded"]


@pytest.mark.parametrize(("session", "place", "other", "most"), [
    ("", "refusals.log", "audit.log", REFUSALS), ("a session", "audit.log", "refusals.log", FAILURES),
])  # fmt: skip
async def test_failures_are_limited_for_an_address_and_in_all_and_strangers_stand_with_the_refusals(
    tmp_path: Path, session: str, place: str, other: str, most: float
) -> None:
    record = Audit(tmp_path, AuditSection())
    clock = lambda: 100.0  # noqa: E731
    record._refusals, record._failures = (Meter(each, REFUSAL_SECONDS, clock) for each in (REFUSALS, FAILURES))
    for _ in range(int(most) + 1):
        record.record(Entry("sign", "10.0.0.1", session), FAILED, "internal")
    for number in range(20_000):
        record.record(Entry("sign", f"10.1.{number % 250}.1", session), FAILED, "internal")
    record.record(Entry("mint"), FAILED, "chain_unavailable")  # the node's own work is not limited
    record.start()
    await record.close()
    found = lines(tmp_path / place)
    assert [line["address"] for line in found if "address" in line].count("10.0.0.1") == most
    own = lines(tmp_path / "audit.log")[-1]
    assert (own["what"], own["decision"]) == ("mint", FAILED)
    assert most < len(found) <= Meter.IN_ALL * most + 1
    assert all("address" not in line for line in lines(tmp_path / other))


async def test_files_are_bounded_in_size_and_number_and_end_with_whole_lines(tmp_path: Path) -> None:
    record = Audit(tmp_path, AuditSection(max_bytes=65_536, files=3))
    record.start()
    for number in range(3000):
        record.record(Entry("sign", summary=f"{number} " + "word " * 30), GRANTED)
        if number % 100 == 0:
            await asyncio.sleep(0.002)
    await record.close()
    paths = files(tmp_path, "audit.log")
    assert [path.name for path in paths] == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(path.stat().st_size <= 65_536 for path in paths)
    numbers = [int(line["summary"].split()[0]) for path in reversed(paths) for line in lines(path)]
    assert numbers == list(range(numbers[0], 3000))


async def test_a_full_disk_loses_lines_at_last_but_nothing_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "BUFFER_BYTES", 2000)
    full, real = [True], os.write

    def write(handle: int, data: bytes) -> int:
        if full[0]:
            raise OSError(28, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(audit.os, "write", write)
    record = Audit(tmp_path, AuditSection())
    record.start()
    for _ in range(100):
        record.record(Entry("sign", summary="x" * 50), GRANTED)
    await until(lambda: record.counts["writes_failed"] > 1)
    assert record.counts["lines_lost"] > 50
    full[0] = False
    await until(lambda: (tmp_path / "audit.log").stat().st_size > 0)
    await record.close()
    assert len(lines(tmp_path / "audit.log")) == 100 - record.counts["lines_lost"]


async def test_a_disk_that_takes_half_a_line_gets_the_other_half_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.write, [0]

    def write(handle: int, data: bytes) -> int:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(28, "No space left on device")
        return real(handle, data[:30] if calls[0] == 1 else data)

    monkeypatch.setattr(audit.os, "write", write)
    record = Audit(tmp_path, AuditSection())
    for number in range(5):
        record.record(Entry("sign", summary=str(number)), GRANTED)
    record.start()
    await until(lambda: calls[0] > 2)
    await record.close()
    assert [line["summary"] for line in lines(tmp_path / "audit.log")] == list("01234")


async def test_after_a_crash_in_the_middle_of_a_line_the_next_begins_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_bytes(b'{"what":"si')
    record = Audit(tmp_path, AuditSection())
    record.record(Entry("sign", summary="after"), GRANTED)
    record.start()
    await record.close()
    torn, whole = (tmp_path / "audit.log").read_bytes().splitlines()
    assert torn == b'{"what":"si'
    assert json.loads(whole)["summary"] == "after"


@pytest.mark.parametrize(("text", "shown"), [
    ("one\ntwo\r\x1b[31mred\u202e", "one two  [31mred "),
    ("x y " * 200, ("x y " * 200)[:299] + "…"),
    ("sign eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJl now", "sign [left out] now"),
    ("secret " + "A" * 100, "secret [left out]"),
    ("send 1 to 0x" + "ab" * 20, "send 1 to 0x" + "ab" * 20),
    ("digest 0x" + "ab" * 32, "digest 0x" + "ab" * 32),
])  # fmt: skip
def test_a_summary_is_one_line_and_no_token(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_outside_a_request_a_note_is_nothing() -> None:
    note(session="nobody")


class Service:
    """Notes what it checked, as the node does; `fault` is raised afterwards."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.fault: BaseException | None = None

    async def sign(self, body: bytes) -> dict[str, Any]:
        note(session="thumb-" + body.decode()[:1], summary="a summary")
        # As in the node: whatever runs in a task of its own still fills the same line.
        await asyncio.create_task(self.later())
        if self.fault:
            raise self.fault
        return {"share": {"w": CANARY}}

    async def later(self) -> None:
        await asyncio.sleep(0.001)
        note(key="0xkey")

    open_session = list_sessions = revoke = commit = sign

    async def network(self) -> dict[str, Any]:
        return {}


async def asked(tmp_path: Path, fault: Exception | None, bodies: list[str]) -> tuple[list[dict[str, Any]], ...]:
    service: Any = Service()
    service.fault = fault
    record = Audit(tmp_path, AuditSection())
    record.start()
    runner = web.AppRunner(api.make_app(service, 65_536, Limits(1000), record), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {CANARY}"}) as http:
            await asyncio.gather(
                *(http.post(f"{url}/v1/sign?token={CANARY}", data=body, headers=JSON) for body in bodies)
            )
            await http.post(f"{url}/v1/{CANARY}", data=b"")
            await http.get(f"{url}/v1/network")
    finally:
        await runner.cleanup()
        await record.close()
    return lines(tmp_path / "audit.log"), lines(tmp_path / "refusals.log")


async def test_every_request_has_its_own_line_however_many_there_are_at_once(tmp_path: Path) -> None:
    granted, refused = await asked(tmp_path, None, [str(number) for number in range(10)])
    assert sorted(line["session"] for line in granted) == [f"thumb-{number}" for number in range(10)]
    assert {(line["what"], line["key"], line["address"]) for line in granted} == {("sign", "0xkey", "127.0.0.1")}
    assert [(line["code"], line["what"]) for line in refused] == [("no_such_path", "unknown")]


@pytest.mark.parametrize(("fault", "decision", "code"), [
    (Refusal("quota_exceeded", "m", "h", 429), REFUSED, "quota_exceeded"),
    (Refusal("run_failed", "m", "h", UNAVAILABLE), FAILED, "run_failed"),
    (ValueError(CANARY), FAILED, "internal"),
])  # fmt: skip
async def test_a_refusal_has_its_code_and_what_was_known(
    tmp_path: Path, fault: Exception, decision: str, code: str
) -> None:
    found = [line for kind in await asked(tmp_path, fault, ["1"]) for line in kind if line["what"] == "sign"]
    assert [(line["decision"], line["code"], line["session"]) for line in found] == [(decision, code, "thumb-1")]


@pytest.mark.parametrize("fault", [None, ValueError(CANARY), Refusal("bad_value", CANARY, CANARY, 400)])
async def test_nothing_of_a_request_or_an_answer_gets_into_a_line_by_itself(
    tmp_path: Path, fault: Exception | None
) -> None:
    await asked(tmp_path, fault, [f"1{CANARY}"])
    for path in files(tmp_path, ""):
        assert CANARY.encode() not in path.read_bytes()
