"""What the page waits for before it says that something is done, and what it believes meanwhile; in node."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from eth_abi import encode
from json_server import JsonHandler
from page_modules import Ask

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth.revocation import FOREVER
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.evm.digests import identity_mark, session_mark
from keyquorum.formats.text import to_base64url

ID, WHO = "ab" * 32, "0x" + "11" * 20
KEY = SessionPrivateKey.generate(SeededRng("page waits"))
CERTIFICATE = f"x.{to_base64url(json.dumps({'iss': 'n'}).encode())}.x"


class Served:
    """A page's own server, and a chain's endpoint for each case of a test: what they say, and what was asked."""

    def __init__(self) -> None:
        self.times: list[dict[str, int]] = []
        self.blocks: list[dict[str, str]] = []
        self.known: list[dict[str, Any]] = []
        self.sessions: list[Any] = []
        self.asked: list[str] = []
        self.url = ""

    def answer(self, path: str, body: Any) -> Any:
        if not path.startswith("/rpc/"):
            self.asked.append(path)
            return {"/v1/network": {"nodes": self.known}, "/v1/sessions/list": {"sessions": self.sessions}}.get(
                path, {}
            )
        case = int(path.removeprefix("/rpc/"))
        self.asked.append(f"{body['method']} {case}")
        return {"jsonrpc": "2.0", "id": body["id"], "result": self.call(case, body["method"], body["params"])}

    def call(self, case: int, method: str, params: list[Any]) -> Any:
        if method == "eth_call":
            words = bytes.fromhex(params[0]["data"][10:])
            marks = [words[at : at + 32].hex() for at in range(64, len(words), 32)]
            return "0x" + encode(["uint256[]"], [[self.times[case].get(mark, 0) for mark in marks]]).hex()
        return "0x9" if method == "eth_blockNumber" else self.blocks[case]

    def network(self, case: int = 0) -> dict[str, Any]:
        """The network of four nodes, whose chain is the one of this case."""
        nodes = [{"party": party} for party in (1, 2, 3, 4)]
        contracts = {"Sessions": "0x" + "22" * 20}
        return {"rpc": f"{self.url}/rpc/{case}", "contracts": contracts, "nodes": nodes, "threshold": 3}


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()

    class Handler(JsonHandler):
        def do_GET(self) -> None:
            self.reply(made.answer(self.path, None))

        def do_POST(self) -> None:
            self.reply(made.answer(self.path, self.asked()))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield made
        server.shutdown()


SESSION = {"key": {"$key": KEY.public.to_jwk() | {"d": to_base64url(KEY.secret_bytes())}}, "certificate": CERTIFICATE}


def test_a_login_names_the_newest_block_only_when_it_had_time_to_spread(ask: Ask, served: Served) -> None:
    now = int(time.time())
    served.blocks = [{"timestamp": hex(now - age), "hash": "newest", "parentHash": "parent"} for age in (60, 0, -600)]
    asked = [[served.network(case)["rpc"]] for case in range(3)]
    assert ask("chain", "recentBlock", asked, page=served.url) == ["newest", "parent", "parent"]


def test_a_session_has_not_ended_that_could_come_back(ask: Ask, served: Served) -> None:
    other = session_mark(b"\xcd" * 32).hex()
    own = session_mark(bytes.fromhex(ID)).hex()
    served.times = [{own: until, other: FOREVER} for until in (0, 1, 2**63, FOREVER - 1)]
    asked = [[served.network(case), SESSION, ID] for case in range(4)]
    assert ask("sessions", "end", asked, page=served.url, failing=True) == ["BadAnswer"] * 4
    assert [served.asked.count(f"eth_call {case}") for case in range(4)] == [20] * 4


def test_a_session_has_ended_once_the_chain_says_that_it_has_for_ever(ask: Ask, served: Served) -> None:
    served.times = [{session_mark(bytes.fromhex(ID)).hex(): FOREVER}]
    assert ask("sessions", "end", [[served.network(), SESSION, ID]], page=served.url) == [9]
    assert served.asked.count("eth_call 0") == 1 and "/v1/revocations" in served.asked


def test_what_has_ended_is_what_the_chain_says_and_not_the_gateway(ask: Ask, served: Served) -> None:
    itself = session_mark(bytes.fromhex(ID)).hex()
    one, other = (identity_mark(number, bytes.fromhex(WHO[2:])).hex() for number in (1, 3))
    cases: list[tuple[dict[str, int], bool]] = [
        ({}, False),
        ({itself: 99}, False),
        ({itself: 100}, True),
        ({one: 100}, False),
        ({one: 100, other: 100}, True),
        ({one: 99, other: 100}, False),
    ]
    methods = [{"type": number, "id": WHO} for number in (1, 3)]
    good = {"id": ID, "methods": methods, "issued_at": 100, "expires": 200}
    bad = [good | {"id": ID.upper()}, good | {"methods": methods * 5}, good | {"issued_at": "100"}, None, 5]
    served.times = [ended for ended, _ in cases]
    for said in (False, True):
        served.sessions = [*bad, good | {"revoked": said}]
        found = ask("sessions", "list", [[served.network(case), SESSION] for case in range(6)], page=served.url)
        assert [[each["revoked"] for each in told["shown"]] for told in found] == [[revoked] for _, revoked in cases]
        assert {told["more"] for told in found} == {0}


def test_of_many_sessions_some_are_shown_and_the_rest_is_counted(ask: Ask, served: Served) -> None:
    one = {"methods": [{"type": 1, "id": WHO}], "issued_at": 100, "expires": 200}
    served.sessions, served.times = [one | {"id": f"{number:064x}"} for number in range(1, 61)], [{}]
    (found,) = ask("sessions", "list", [[served.network(), SESSION]], page=served.url)
    assert (len(found["shown"]), found["more"]) == (50, 10)


@pytest.mark.parametrize(("behind", "settled"), [((3, 4), True), ((2, 3, 4), False)])
def test_something_is_settled_when_fewer_than_t_nodes_have_not_seen_it(
    ask: Ask, served: Served, behind: tuple[int, ...], settled: bool
) -> None:
    served.known = [{"party": party, "live": True, "block": 8 if party in behind else 9} for party in (1, 2, 3, 4)]
    served.known.append({"party": 5, "live": True, "block": 99})  # who is in no registry counts for nothing
    assert ask("seen", "untilSeen", [[served.network(), 9]], page=served.url) == [settled]
    assert served.asked.count("/v1/network") == (1 if settled else 26)
