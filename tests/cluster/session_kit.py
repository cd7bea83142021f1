"""Logins, delegations and revocations by hand, so that a test can send each node exactly what it likes."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from cluster import Cluster
from keyquorum import intents
from keyquorum.algebra.rng import SystemRng
from keyquorum.auth import certificate as certificates
from keyquorum.auth import delegation, login_request, siwe
from keyquorum.auth import request as requests
from keyquorum.auth.session_key import SessionKey, SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.client.revocations import SignedRevocation
from keyquorum.client.shares import Share, combine_shares
from keyquorum.formats.text import from_base64url

SIGNERS = (1, 2, 3)
Answers = list[tuple[int, Any]]


def new_key() -> SessionPrivateKey:
    return SessionPrivateKey.generate(SystemRng())


@dataclass(frozen=True)
class Opened:
    """An open session, or a delegate's part of one."""

    network: str
    token: str
    key: SessionPrivateKey
    statement: Statement
    links: tuple[str, ...] = ()

    @property
    def claims(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(from_base64url(self.token.split(".")[1], "it"))
        return found

    @property
    def id(self) -> str:
        return str(self.claims["jti"])

    @property
    def last(self) -> str:
        """The id of what the key was named in: the certificate, or the last delegation."""
        return delegation.name(self.links[-1]) if self.links else self.id

    def lend(self, to: SessionPrivateKey | None = None, /, **changes: Any) -> Opened:
        """Lend this session, changed as said, whether or not that is allowed."""
        held = to or new_key()
        lent = delegation.Delegation(
            network=self.network, parent=self.last, session=held.public, keys=self.statement.keys,
            scopes=self.statement.scopes, uses=self.statement.uses, expires=self.statement.expires,
        )  # fmt: skip
        lent = replace(lent, **changes)
        statement = replace(self.statement, keys=lent.keys, scopes=lent.scopes, uses=lent.uses, expires=lent.expires)
        return replace(self, key=held, links=(*self.links, delegation.make(self.key, lent)), statement=statement)

    def body(self, kind: str, intent: dict[str, Any], key: str = "*", *, run: bool = True, **request: Any) -> Any:
        """The body of a signed request; `run`: for a path that makes one."""
        options = {"request_id": secrets.token_urlsafe(24), "expires": int(time.time()) + 55} | request
        options = {"runs": [] if kind in requests.RUNLESS else [SIGNERS]} | options
        token = requests.make(self.key, network=self.network, key=key, intent=intent, kind=kind, **options)
        body: dict[str, Any] = {"certificate": self.token, "request": token}
        if self.links:
            body["delegations"] = list(self.links)
        return body | ({"run": 0} if run else {})


async def ask(cluster: Cluster, path: str, body: Any, *parties: int) -> Answers:
    """Ask nodes (those of the run, or `parties`) at once."""
    asked = parties or signers_of(body)
    return list(await asyncio.gather(*(cluster.post(party, path, body) for party in asked)))


def signers_of(body: Any) -> tuple[int, ...]:
    """Who is asked by a body: the signers of the run that it chooses."""
    claims = json.loads(from_base64url(body["request"].split(".")[1], "it"))
    return tuple(claims["runs"][body["run"]])


def codes(answers: Answers) -> list[str]:
    """The words with which the nodes refused; "" for those that did not."""
    return [answer["error"]["code"] if status != 200 else "" for status, answer in answers]


async def new_statement(cluster: Cluster, key: SessionKey, **changes: Any) -> Statement:
    block = await cluster.rpc.block("latest")
    assert block is not None
    values = {
        "network": cluster.network.id, "session": key, "keys": ("*",), "scopes": (1,),
        "expires": int(time.time()) + 3000, "nonce": secrets.token_hex(16), "block": block["hash"],
    }  # fmt: skip
    return Statement(**values | changes)


def prove(account: LocalAccount, statement: Statement, issued_at: int | None = None) -> dict[str, str]:
    """A SIWE proof."""
    address = bytes.fromhex(account.address[2:])
    text = siwe.build_message(statement, address, "localhost", int(time.time()) if issued_at is None else issued_at)
    return {"message": text, "signature": "0x" + bytes(account.sign_message(encode_defunct(text=text)).signature).hex()}


def login_body(
    key: SessionPrivateKey,
    statement: Statement,
    proof: Any,
    old: Opened | None = None,
    signers: tuple[int, ...] = SIGNERS,
    method: str = "siwe",
) -> Any:
    """A login, signed by `key`, whether or not that is the one of the statement."""
    token = login_request.make(
        key, statement, method, proof, expires=int(time.time()) + 55, runs=[signers],
        certificate=old.token if old else None,
    )  # fmt: skip
    return {"request": token, "run": 0}


async def open_session(
    cluster: Cluster,
    account: LocalAccount,
    old: Opened | None = None,
    *,
    issued_at: int | None = None,
    signers: tuple[int, ...] = SIGNERS,
    **changes: Any,
) -> Opened:
    """Log in, or step up from `old` with the same session key."""
    key = old.key if old else new_key()
    if old:
        kept = ("keys", "scopes", "expires", "uses")
        changes = {name: getattr(old.statement, name) for name in kept} | changes
    statement = await new_statement(cluster, key.public, **changes)
    body = login_body(key, statement, prove(account, statement, issued_at), old, signers)
    answers = await ask(cluster, "/v1/sessions", body)
    assert [status for status, _ in answers] == [200] * len(answers), answers
    return Opened(cluster.network.id, await certificate_of(cluster, answers), key, statement)


async def certificate_of(cluster: Cluster, answers: Answers) -> str:
    inputs = {answer["certificate_input"] for _, answer in answers}
    assert len(inputs) == 1
    signing_input = inputs.pop().encode()
    found = await combine(cluster, answers, certificates.digest(signing_input))
    return certificates.assemble(signing_input, found.r, found.s)


async def combine(cluster: Cluster, answers: Answers, digest: bytes) -> Any:
    """The network key's signature from the nodes' shares, verified."""
    shares = {answer["share"]["party"]: msgspec.convert(answer["share"], Share) for _, answer in answers}
    key = await next(iter(cluster.nodes.values()))._view.network_key()
    assert key is not None
    return combine_shares(shares, digest, key)


async def sign_with(
    cluster: Cluster, session: Opened, token_id: int, text: str = "hello", *parties: int, **request: Any
) -> Answers:
    """Ask the nodes of a run (or each of `parties` alone, whether or not it is one of them) to sign a message."""
    intent, token = intents.message_intent(text), f"0x{token_id:064x}"
    if not parties:
        return await ask(cluster, "/v1/sign", session.body("sign", intent, token, **request))
    runs = [
        sorted([party, *(j for j in sorted(cluster.nodes) if j != party)][: cluster.threshold]) for party in parties
    ]
    body = session.body("sign", intent, token, runs=runs, **request)
    answers: Answers = []
    for number, party in enumerate(parties):
        answers += await ask(cluster, "/v1/sign", body | {"run": number}, party)
    return answers


async def revoke(cluster: Cluster, session: Opened, intent: dict[str, Any], **request: Any) -> Answers:
    """Ask the nodes for a revocation; when all agree, deliver it to the chain."""
    answers = await ask(cluster, "/v1/revocations", session.body("revoke", intent, **request))
    if all(status == 200 for status, _ in answers):
        assert len({(answer["what"], answer["before"], answer["digest"]) for _, answer in answers}) == 1
        first = answers[0][1]
        found = await combine(cluster, answers, bytes.fromhex(first["digest"][2:]))
        signature = found.r.to_bytes(32, "big") + found.s.to_bytes(32, "big") + bytes([27 + (found.v & 1)])
        signed = SignedRevocation(bytes.fromhex(first["what"][2:]), first["before"], signature)
        await cluster.send(3, "Sessions", "revoke", signed.what, signed.before, signed.signature)
        await seen_by_all(cluster)
    return answers


async def seen_by_all(cluster: Cluster) -> None:
    """Wait until no node is in the middle of a look at the chain that began before the newest block came."""
    newest = await cluster.rpc.block_number()
    for node in cluster.nodes.values():
        while (await node._view.refresh()).newest < newest:
            pass


async def runs_of(cluster: Cluster, *protocols: str) -> int:
    """How many runs of these kinds the nodes have made, when all are over: what is refused makes none, spends nothing.

    Not the stock of correlations, which the making of new keys takes from as well.
    """
    await cluster.settled()
    samples = [
        sample
        for node in cluster.nodes.values()
        for metric in node.metrics.runs.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["protocol"] in (protocols or ("sign", "session", "revoke"))
    ]
    return int(sum(sample.value for sample in samples))
