"""The sessions of a person: looking at them and ending them. `client.sessions`.

Ending takes effect on the chain, so the client looks there whether a gateway really did it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from keyquorum.auth import request as requests
from keyquorum.auth.revocation import Revocation, read_revocation
from keyquorum.client import session_list
from keyquorum.client.checks import executed
from keyquorum.client.connection import KeyLike, token_of
from keyquorum.client.errors import BadAnswer
from keyquorum.client.results import token_hex
from keyquorum.client.revocations import RevocationJob
from keyquorum.client.runs import FreshRuns
from keyquorum.client.seen import Change
from keyquorum.client.session import revoke_expires
from keyquorum.client.session_list import SessionInfo, SessionsAnswer
from keyquorum.evm.address import checksum

if TYPE_CHECKING:
    from keyquorum.client.async_client import AsyncClient

PATH = "/v1/revocations"


class _Revoked(msgspec.Struct):
    transaction: str
    before: str
    signature: str


class Sessions:
    """The sessions that rest on what the session in use has proven."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self) -> tuple[SessionInfo, ...]:
        """Return the sessions that any node remembers, the newest first; the one in use is marked `current`."""
        client = self._client
        session = await client._logged_in()
        asked = session.request(requests.SESSIONS, {})
        if client._through_gateway:
            found = await client._ask_gateway(session_list.PATH, asked, SessionsAnswer)
        else:
            told = await session_list.collect(client._current_committee(), client._transport, asked, client._timeout)
            found = SessionsAnswer(told["sessions"])
        listed = [session_list.to_info(one, session.id) for one in found.sessions[: session_list.MAX_LISTED]]
        return await self._as_the_chain_says(listed)

    async def _as_the_chain_says(self, listed: Sequence[SessionInfo]) -> tuple[SessionInfo, ...]:
        """Return the list with `revoked` as the chain has it; what names no session is left out."""
        marks = session_list.marks_of(listed)
        chain = self._client.chain
        times = await chain.ask(chain.contract("Sessions"), "revokedBefore", list(marks)) if marks else []
        return session_list.ended(listed, dict(zip(marks, times, strict=True)))

    async def revoke(self, name: str) -> Change:
        """End one session, by its id; return the hash of the transaction when the nodes have seen it."""
        session = await self._client._logged_in()
        transaction = await self._revoke({"session": name})
        if name == session.id:
            self._client.forget_session()
        return transaction

    async def revoke_all(self) -> tuple[Change, ...]:
        """End every session that rests on an identity of the one in use, this one included."""
        session = await self._client._logged_in()
        done = [
            await self._revoke({"identity": {"type": one.type, "id": "0x" + one.id.hex()}}) for one in session.methods
        ]
        self._client.forget_session()
        return tuple(done)

    async def revoke_key(self, key: KeyLike) -> Change:
        """End every session as far as one key goes, whoever opened it; takes scope 6, or owning the key."""
        client, token = self._client, token_of(key)
        account = client.account
        if account is not None and await client.chain.owner(token) == checksum(account.address):
            contract = client.chain.contract("Sessions")
            receipt = await client.send_from_account(contract.address, contract.encode("revokeSessionsOf", token))
            return await client._spread(str(receipt["transactionHash"]), receipt)
        return await self._revoke({"key": token_hex(token)})

    async def _revoke(self, intent: Mapping[str, Any]) -> Change:
        client = self._client
        what, contract = read_revocation(intent), client.chain.contract("Sessions")
        session = await client._logged_in()
        reach = await self._newest_login()
        # Whenever it is signed from here on, it expires as late as this at least.
        before = what.before(revoke_expires(reach), int(session.claims["iat"]))
        asked = session.ask(requests.REVOKE, intent, reach=reach)
        if what.session is None:
            client._ended_until = max(client._ended_until, before)
        if client.has_gateway:
            done = await client._run_at_gateway(PATH, asked, _Revoked)
            return await client._spread(done.transaction, await self._delivered(what, before, done))
        job = RevocationJob(
            FreshRuns(asked),
            what,
            before=before,
            chain_id=client.facts.chain_id,
            sessions=contract.address,
            network_key=await client._network_key(),
        )
        signed = await client._fanout.run(job, client._timeout)
        data = contract.encode("revoke", signed.what, signed.before, signed.signature)
        receipt = await client.send_from_account(contract.address, data)
        return await client._spread(str(receipt["transactionHash"]), receipt)

    async def _newest_login(self) -> int:
        """Return the time (Unix seconds) of the newest login that there can be: the chain's clock may be ahead."""
        return (await self._client.chain.newest_block()).time + 1

    async def _delivered(self, what: Revocation, before: int, done: _Revoked) -> Mapping[str, Any]:
        """Return the receipt; raise `BadAnswer` unless the transaction revoked just this, up to `before` at least.

        An earlier revocation of the same does not do: it leaves what began since.
        """
        client = self._client
        contract = client.chain.contract("Sessions")
        try:
            told, signature = int(done.before), bytes.fromhex(done.signature.removeprefix("0x"))
            data = contract.encode("revoke", what.mark, told, signature)
        except ValueError:
            raise BadAnswer("bad_answer", "the gateway does not say what it delivered to the chain") from None
        if told < before:
            raise BadAnswer("bad_answer", "the gateway delivered an earlier revocation, not this one")
        return await executed(client.chain, done.transaction, contract.address, data, client._timeout)
