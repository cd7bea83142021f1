"""The mesh: one authenticated connection to each other node, kept up for as long as the registry lists it.

Of two nodes the one with the lower PartyId dials, for ever, with growing pauses; the other listens. Both prove the key
that the registry pins (`tls.py`), then say hello: same protocol version, same network, the right two parties. The
listener answers the hello only when it has admitted the connection, so both sides take it up at the same point.

**One life per identity.** A newcomer does not replace a connection that still answers: two processes with one key are a
clone or a restored snapshot, and the first to be connected stays. A connection that does not answer a ping in two
seconds is dead and gives way. `boot_ids` tells which process of a peer is at the other end.

**Strangers cost little.** A TLS handshake has five seconds and there is a bound on unfinished ones, in all and for each
address; a certificate that the registry does not know ends the connection before any byte of it is parsed.

Everything runs in one event loop. Callbacks are plain functions that must not wait: `on_up(peer)` comes before the
first frame of a connection, `on_down(peer)` after the last, and each kind of frame has one receiver (`route`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import aiohttp
from yarl import URL

from keyquorum.node.mesh import wire
from keyquorum.node.mesh.connection import Connection, ConnectionDropped, Limits
from keyquorum.node.mesh.identity import Identity, spki_digest
from keyquorum.node.mesh.listener import Listener
from keyquorum.node.mesh.tls import TrustStore, fetch_certificate, peer_certificate
from keyquorum.serving.forever import forever

FrameT = TypeVar("FrameT", bound=wire.Frame)
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 5.0
LONGEST_WATCH_PAUSE: Final = 60.0
LIVED_SECONDS: Final = 2.0

log = logging.getLogger("keyquorum.mesh")


@dataclass(frozen=True)
class Peer:
    """What the registry says of a node: where it listens, and the SHA-256 of its TLS key."""

    host: str
    port: int
    spki: bytes


@dataclass(frozen=True)
class Link:
    """An admitted connection: both hellos, which name it for ever; `gone` is set after `on_down`."""

    connection: Connection
    ours: wire.Hello
    theirs: wire.Hello
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class _Neighbour:
    peer: Peer
    task: asyncio.Task[None] | None = None
    link: Link | None = None
    admitting: bool = False
    connections: int = 0
    last_problem: str = ""
    counts: Counter[str] = field(default_factory=Counter)


class Mesh:
    """All links of one node. `party` is this node, `network` the network id, `peers` the others from the registry."""

    def __init__(
        self,
        party: int,
        network: str,
        identity: Identity,
        peers: Mapping[int, Peer],
        *,
        limits: Limits | None = None,
        epoch: int = 0,
    ) -> None:
        self.party = party
        self.epoch = epoch
        self.boot_id = os.urandom(16)
        self.limits = limits or Limits()
        self.on_up: list[Callable[[int], None]] = []
        self.on_down: list[Callable[[int], None]] = []
        self.counts: Counter[str] = Counter()
        self._network = network
        self._trust = TrustStore(identity)
        self._routes: dict[type[wire.Frame], Callable[[int, Any], None]] = {}
        self._neighbours: dict[int, _Neighbour] = {}
        self._connection_number = 0
        self._session: aiohttp.ClientSession | None = None
        self._listener = Listener(self._trust.server, self._identify, self._welcome, self.limits, self.counts)
        self._registered = dict(peers)

    # What the rest of the node uses

    def route(self, kind: type[FrameT], receiver: Callable[[int, FrameT], None]) -> None:
        """Give every frame of `kind` to `receiver(peer, frame)`; kinds without a receiver are dropped and counted."""
        self._routes[kind] = receiver

    async def start(self, host: str, port: int) -> int:
        """Listen on an address (port 0: any free one) and begin to dial; return the port."""
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_refuse_redirect)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        )
        bound = await self._listener.start(host, port)
        self.set_peers(self._registered)
        return bound

    def set_peers(self, peers: Mapping[int, Peer]) -> None:
        """Take the registry's new list: new peers are dialled, removed and changed ones are dropped at once."""
        pins = [peer.spki for peer in peers.values()]
        if len(set(pins)) != len(pins):
            raise ValueError("two parties with one TLS key in the registry")
        self._registered = {number: peer for number, peer in peers.items() if number != self.party}
        self._listener.expect(peer.host for peer in self._registered.values())
        for number in [n for n, known in self._neighbours.items() if self._registered.get(n) != known.peer]:
            gone = self._neighbours.pop(number)
            if gone.task is not None:
                gone.task.cancel()
            if gone.link is not None:
                gone.link.connection.drop("not in the registry any more")
        for number, peer in self._registered.items():
            if number not in self._neighbours and self._session is not None:
                known = self._neighbours[number] = _Neighbour(peer)
                keep = self._keep_dialling if self.party < number else self._keep_knowing
                known.task = forever(f"the link to party {number}", keep(number, known))

    def send(self, peer: int, frame: wire.Frame) -> bool:
        """Queue a frame for `peer` without waiting; False when there is no link, or it is dropped for its backlog."""
        known = self._neighbours.get(peer)
        return known is not None and known.link is not None and known.link.connection.send(frame)

    def is_up(self, peer: int) -> bool:
        """Whether there is a live link to `peer`."""
        return self.link(peer) is not None

    def link(self, peer: int) -> Link | None:
        """Return the live link to `peer`, or None."""
        known = self._neighbours.get(peer)
        return known.link if known is not None and known.link is not None and known.link.connection.open else None

    def drop(self, peer: int, why: str) -> None:
        """End the link to `peer`; a fresh one is made after the usual pause."""
        link = self.link(peer)
        if link is not None:
            link.connection.drop(why)

    @property
    def up(self) -> list[int]:
        """The peers with a live link, sorted."""
        return sorted(number for number in self._neighbours if self.is_up(number))

    @property
    def boot_ids(self) -> dict[int, bytes]:
        """Which process of each linked peer is at the other end: 16 random bytes per start."""
        return {number: link.theirs.boot for number in self.up if (link := self.link(number)) is not None}

    def problems(self) -> dict[int, str]:
        """Return, for each peer that is not up, what went wrong last; for people."""
        return {number: known.last_problem for number, known in self._neighbours.items() if not self.is_up(number)}

    async def close(self) -> None:
        """Stop dialling and listening and close every link."""
        neighbours = list(self._neighbours.values())
        self._neighbours.clear()
        self._registered = {}
        tasks = [known.task for known in neighbours if known.task is not None]
        for known in neighbours:
            if known.link is not None:
                known.link.connection.drop("closing")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._listener.close()
        if self._session is not None:
            await self._session.close()

    # Dialling: spec/mesh.md section 1

    async def _keep_dialling(self, number: int, known: _Neighbour) -> None:
        pause = FIRST_PAUSE
        while True:
            lived = False
            try:
                began = asyncio.get_running_loop().time()
                admitted = await self._dial(number, known)
                lived = admitted and asyncio.get_running_loop().time() - began > LIVED_SECONDS
                known.last_problem = "the connection ended"
            except Exception as error:  # whatever it was, this loop is what brings the peer back
                known.last_problem = _describe(error)
                known.counts["dial_failed"] += 1
                if isinstance(error, aiohttp.ClientConnectorCertificateError):
                    self._trust.forget(known.peer.spki)
            if self._neighbours.get(number) is not known:
                return  # cancelled just when the connection ended: then only its end was noticed
            pause = FIRST_PAUSE if lived else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _keep_knowing(self, number: int, known: _Neighbour) -> None:
        """Learn the certificate of a peer that dials us, and look again now and then while it is not linked."""
        pause = FIRST_PAUSE
        while True:
            if known.link is None:
                try:
                    await self._learn(known.peer, again=True)
                    pause = max(pause, LONGEST_PAUSE)
                except Exception as error:
                    known.last_problem = _describe(error)
            pause = min(2 * pause, LONGEST_WATCH_PAUSE if self._trust.certificate(known.peer.spki) else LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _learn(self, peer: Peer, again: bool = False) -> None:
        if again or self._trust.certificate(peer.spki) is None:
            async with asyncio.timeout(self.limits.handshake):
                self._trust.add(await fetch_certificate(peer.host, peer.port, peer.spki))

    async def _dial(self, number: int, known: _Neighbour) -> bool:
        """Make one connection and serve it to its end; return whether it was admitted."""
        if self._session is None:
            raise ConnectionDropped("the mesh is closed")
        await self._learn(known.peer)
        url = URL.build(scheme="https", host=known.peer.host, port=known.peer.port, path=Listener.path)
        async with asyncio.timeout(self.limits.handshake):
            socket = await self._session.ws_connect(
                url, ssl=self._trust.client(known.peer.spki), max_msg_size=wire.FRAME_LIMIT, compress=0, autoping=False
            )
        connection = Connection(socket, number, self.limits)
        try:
            certificate = peer_certificate(socket.get_extra_info)
            if certificate is None or self._party_of(certificate) != number:
                raise ConnectionDropped("the key is not the registered one any more")
            ours = self._hello(number)
            connection.send(ours)
            theirs = await self._expect_hello(connection, number)
            if known.link is None and self._neighbours.get(number) is known:
                await self._serve(number, known, Link(connection, ours, theirs))
                return True
            return False
        finally:
            await connection.finish()

    # Listening: spec/mesh.md section 2

    def _identify(self, get_extra_info: Callable[[str], Any]) -> int | None:
        """Return which registered party is at the other end of an accepted connection, from its TLS key alone."""
        certificate = peer_certificate(get_extra_info)
        party = None if certificate is None else self._party_of(certificate)
        return party if party is not None and party < self.party else None

    def _party_of(self, certificate: bytes) -> int | None:
        pin = spki_digest(certificate)
        return next((number for number, known in self._neighbours.items() if known.peer.spki == pin), None)

    async def _welcome(self, number: int, socket: Any) -> None:
        """Greet an accepted connection of `number`, admit it or not, and serve it to its end."""
        known = self._neighbours.get(number)
        connection = Connection(socket, number, self.limits)
        farewell = None
        try:
            theirs = await self._expect_hello(connection, number)
            if known is None or not await self._make_room(number, known):
                self.counts["duplicate_session"] += 1
                log.warning("party %d: a second live session was refused: is its key in use twice?", number)
                farewell = wire.Bye("another session of this party is alive")
                return
            ours = self._hello(number)
            connection.send(ours)
            await self._serve(number, known, Link(connection, ours, theirs))
        except (OSError, TimeoutError, ValueError) as error:
            farewell = wire.Bye("refused") if connection.open else None
            if known is not None:
                known.last_problem = _describe(error)
                known.counts["refused"] += 1
        finally:
            await connection.finish(farewell)

    async def _make_room(self, number: int, known: _Neighbour) -> bool:
        """Decide whether a newcomer may take the place of the link there is: only if that one is dead."""
        if known.admitting:
            return False
        old, known.admitting = known.link, True
        try:
            if old is not None:
                if await old.connection.probe():
                    return False
                old.connection.drop("dead: replaced by a new session")
                async with asyncio.timeout(self.limits.probe):
                    await old.gone.wait()  # reported down before the new one is up
            return self._neighbours.get(number) is known and known.link is None
        finally:
            known.admitting = False

    # Both sides

    def _hello(self, recipient: int) -> wire.Hello:
        self._connection_number += 1
        return wire.Hello(
            wire.VERSION, self._network, self.party, recipient, self.boot_id, self._connection_number, self.epoch
        )

    async def _expect_hello(self, connection: Connection, number: int) -> wire.Hello:
        async with asyncio.timeout(self.limits.handshake):
            frame = await connection.receive()
        if isinstance(frame, wire.Bye):
            raise ConnectionDropped(f"refused: {frame.reason}")
        if not isinstance(frame, wire.Hello) or (frame.sender, frame.recipient) != (number, self.party):
            raise ConnectionDropped("refused: no proper hello")
        if (frame.version, frame.network) != (wire.VERSION, self._network):
            raise ConnectionDropped("refused: another network or version")
        if frame.boot == self.boot_id:
            raise ConnectionDropped("refused: our own boot id")
        return frame

    async def _serve(self, number: int, known: _Neighbour, link: Link) -> None:
        known.link, known.last_problem = link, ""
        known.counts["connections"] += 1
        alive = asyncio.create_task(link.connection.keep_alive())
        alive.add_done_callback(lambda _: link.connection.drop("nobody looks whether the peer lives"))
        try:
            _call(self.on_up, number)
            while True:
                frame = await link.connection.receive()
                self._dispatch(number, frame)
        except ConnectionDropped:
            pass
        finally:
            alive.cancel()
            self.counts["malformed"] += link.connection.malformed
            link.connection.drop("closed")
            known.last_problem = link.connection.why_dropped or ""
            known.link = None
            _call(self.on_down, number)
            link.gone.set()

    def _dispatch(self, number: int, frame: wire.Frame) -> None:
        if isinstance(frame, wire.Bye):
            self.drop(number, f"closed by the peer: {frame.reason}")
            return
        receiver = self._routes.get(type(frame))
        if receiver is None:
            self.counts["unrouted"] += 1
            return
        try:
            receiver(number, frame)
        except Exception:
            # A fault of ours in handling one frame is not the peer's, and must not cost the other runs their link.
            self.counts["receiver_failed"] += 1
            log.exception("a %s frame of party %d was not handled", type(frame).__name__, number)


def _call(callbacks: list[Callable[[int], None]], number: int) -> None:
    for callback in callbacks:
        try:
            callback(number)
        except Exception:
            log.exception("a callback of the mesh failed for party %d", number)


def _describe(error: BaseException) -> str:
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"refused with HTTP {error.status}"
    return f"{type(error).__name__}: {error}"[:200]


async def _refuse_redirect(*_: Any) -> None:
    raise ConnectionDropped("a peer answered with a redirect")
