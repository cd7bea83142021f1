"""The client against code services that lie, stall, or talk nonsense."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from codes.code_world import MAIL, NOW, session, statement_for
from keyquorum.auth.code_assertion import make_assertion
from keyquorum.client.codes import answer, request_codes
from keyquorum.client.errors import BadAnswer, Refused, Unavailable

ADA, SERVICE = session("ada"), session("service")
STATEMENT = statement_for(ADA)


def signed(issuer: str = "mail-a", address: str = MAIL, statement: Any = STATEMENT) -> dict[str, str]:
    return {"assertion": make_assertion(SERVICE, issuer, "email", address, statement, issued_at=NOW)}


class Liar:
    """A code service that answers as told."""

    def __init__(self, issuer: str, answered: Any = None, status: int = 200) -> None:
        self.issuer = issuer
        self.answered = signed(issuer) if answered is None else answered
        self.status = status
        self.asked = 0

    async def ask(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.status == 0:
            await asyncio.sleep(30)
        if self.status != 200:
            error = {"code": "wrong_network", "message": "no\x1b[2J", "hint": "h"}
            return web.json_response({"error": error}, status=self.status)
        return web.json_response({"id": "../../x", "issuer": self.issuer, "expires": NOW, "digits": 8})

    async def answer(self, request: web.Request) -> web.Response:
        assert request.match_info["id"] == "../../x"  # a name out of a service's mouth stays one part of the path
        return web.json_response(self.answered)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    runners: list[web.AppRunner] = []

    async def start(liar: Liar) -> str:
        app = web.Application()
        app.add_routes([web.post("/v1/codes", liar.ask), web.post("/v1/codes/{id}/answer", liar.answer)])
        runners.append(web.AppRunner(app, shutdown_timeout=0.1))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runners[-1].addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_the_proof_has_the_normal_address_and_each_assertion(serve: Callable[..., Any]) -> None:
    urls = [await serve(Liar(name)) for name in ("mail-a", "mail-b")]
    asked = await request_codes(urls, "email", "ADA@example.org", STATEMENT)
    proof = await answer(asked, ADA, {"mail-a": "1234 5678", "mail-b": "1234-5678"})
    assert proof == {"address": MAIL, "assertions": [signed("mail-a")["assertion"], signed("mail-b")["assertion"]]}


@pytest.mark.parametrize(
    "answered",
    [
        signed(address="eve@example.org"),
        signed("mail-b"),
        signed(statement=statement_for(session("thief"))),
        {"assertion": "a.b.c"},
        {"assertion": 5},
        {},
    ],
)
async def test_an_assertion_about_something_else_is_no_answer(serve: Callable[..., Any], answered: Any) -> None:
    asked = await request_codes([await serve(Liar("mail-a", answered))], "email", MAIL, STATEMENT)
    with pytest.raises(BadAnswer, match="mail-a"):
        await answer(asked, ADA, {"mail-a": "12345678"})


async def test_two_services_of_one_name_are_one(serve: Callable[..., Any]) -> None:
    urls = [await serve(Liar("mail-a")), await serve(Liar("mail-a")), await serve(Liar("mail-b"))]
    asked = await request_codes(urls, "email", MAIL, STATEMENT, needed=2)
    assert [one.issuer for one in asked.asked] == ["mail-a", "mail-b"]
    with pytest.raises(Unavailable, match="share a name"):
        await request_codes(urls[:2], "email", MAIL, STATEMENT)


async def test_no_more_services_are_asked_than_needed(serve: Callable[..., Any]) -> None:
    liars = [Liar(f"mail-{letter}") for letter in "abc"]
    urls = [await serve(liar) for liar in liars]
    await request_codes(urls, "email", MAIL, STATEMENT, needed=2)
    assert [liar.asked for liar in liars] == [1, 1, 0]


async def test_a_service_that_refuses_the_login_itself_is_quoted_safely(serve: Callable[..., Any]) -> None:
    with pytest.raises(Refused) as caught:
        await request_codes([await serve(Liar("mail-a", status=401))], "email", MAIL, STATEMENT)
    assert caught.value.code == "wrong_network" and "\x1b" not in str(caught.value)


async def test_a_silent_service_is_passed_over(serve: Callable[..., Any]) -> None:
    urls = [await serve(Liar("mail-a", status=0)), await serve(Liar("mail-b"))]
    asked = await request_codes(urls, "email", MAIL, STATEMENT, needed=1, seconds=0.3)
    assert [one.issuer for one in asked.asked] == ["mail-b"] and "in time" in asked.failed[urls[0]]


@pytest.mark.parametrize("name", ["mail-a\x1b[1A\x1b[2K", "", "Mail A", "x" * 65, "mail\n", "m\u202ea"])
async def test_a_service_cannot_write_on_the_terminal_with_its_name(serve: Callable[..., Any], name: str) -> None:
    liar, honest = Liar("mail-a"), Liar("mail-b")
    liar.issuer = name
    urls = [await serve(liar), await serve(honest)]
    asked = await request_codes(urls, "email", MAIL, STATEMENT, needed=1)
    assert [one.issuer for one in asked.asked] == ["mail-b"]
    assert "\x1b" not in str(asked.failed)


async def test_the_program_of_the_document_makes_the_proof(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "auth" / "email.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(program, "email.md", "exec"), found)
    monkeypatch.setattr("builtins.input", lambda _: "1234 5678")
    urls = [await serve(Liar(name)) for name in ("mail-a", "mail-b")]
    proof = await found["proof_from_mail"](urls, MAIL, STATEMENT, ADA)
    assert proof["address"] == MAIL and len(proof["assertions"]) == 2
