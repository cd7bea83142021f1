"""The network's identity secret at one node: asked of the peers after each start, kept in memory, never written.

Whoever has no secret yet asks every linked peer; a peer gives its part to members of the network only, to each a few
times a minute. t parts that pass their check, the own one among them, are the secret (spec/identity_secret.md). A wrong
part is refused and its sender named; the others' do. Until the secret is there, ids of guessable names cannot be
computed here, and the logins that need them are asked to wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from keyquorum.algebra.curve import Point
from keyquorum.algebra.rng import Rng
from keyquorum.auth.method import no_secret
from keyquorum.node.chain.roster import Roster
from keyquorum.node.keymaking.minting_notices import Notify
from keyquorum.node.storage.database import StoreFailed
from keyquorum.node.storage.keys import Keys, id_of
from keyquorum.node.storage.store import ShareCorrupt, ShareUnknown
from keyquorum.protocols.identity_secret import Partial, check, combine, conceal, partial
from keyquorum.protocols.key_share import KeyShare
from keyquorum.rounds.errors import Blame
from keyquorum.serving.buckets import Buckets

log = structlog.get_logger("keyquorum.identity")

ASK, PART = "identity/ask", "identity/part"
ASK_AGAIN_SECONDS = 0.5
ANSWERS, ANSWER_SECONDS = 10.0, 50.0
REFERENCE_BYTES = 16


class IdentitySecret:
    """Party `me`'s way to the secret; `conceal` is for `auth.method.Context`."""

    def __init__(
        self,
        roster: Roster,
        keys: Keys,
        notify: Notify,
        is_up: Callable[[int], bool],
        rng: Rng,
        clock: Callable[[], float] = time.monotonic,
        blame: Callable[[int], None] = lambda party: None,
    ) -> None:
        """`notify(peer, topic, reference, payload)` sends a notice; `is_up(peer)` tells whether one is linked.

        `blame(party)` hears whose part was wrong.
        """
        self._roster = roster
        self.refused: set[int] = set()
        self.blame = blame
        self._keys = keys
        self._notify = notify
        self._is_up = is_up
        self._rng = rng
        self._clock = clock
        self._secret: bytes | None = None
        self._key: KeyShare | None = None
        self._own: Partial | None = None
        self._parts: dict[int, Partial] = {}
        self._asked: dict[int, tuple[bytes, float]] = {}
        self._answers = Buckets(ANSWERS, ANSWER_SECONDS, clock)

    @property
    def ready(self) -> bool:
        """Whether the secret is there."""
        return self._secret is not None

    def conceal(self, type_number: int, name: bytes) -> bytes:
        """Return the 32 bytes that stand for `name` on the chain; raises `Invalid` "not_ready" for the time being."""
        return no_secret(type_number, name) if self._secret is None else conceal(self._secret, type_number, name)

    def tick(self, network_key: Point | None) -> None:
        """Go on: called after each look at the chain; `network_key` None while the network has none."""
        if self._secret is not None or network_key is None or not self._open(network_key):
            return
        for peer in self._missing():
            self._ask(peer)

    def link_up(self, peer: int) -> None:
        """Ask a peer that has just been linked."""
        self._asked.pop(peer, None)
        if self._secret is None and peer in self._missing():
            self._ask(peer)

    def on_notice(self, peer: int, topic: str, reference: bytes, payload: bytes) -> bool:
        """Take a notice of this kind from the authenticated link of `peer`; return whether it is one."""
        if topic not in (ASK, PART):
            return False
        if peer in self._roster.current.members and len(reference) == REFERENCE_BYTES:
            if topic == ASK:
                self._answer(peer, reference)
            else:
                self._take(peer, reference, payload)
        return True

    def _open(self, network_key: Point) -> bool:
        """Load this node's share of the network key, once it is active and sound, and make the own part of it."""
        if self._own is None:
            try:
                self._key = self._keys.load(id_of(network_key.to_bytes()))
            except (ShareUnknown, ShareCorrupt, StoreFailed):
                return False
            self._own = partial(self._key, self._rng)
        return True

    def _missing(self) -> list[int]:
        return [j for j in self._key.parties if j != self._roster.me and j not in self._parts] if self._key else []

    def _ask(self, peer: int) -> None:
        _, at = self._asked.get(peer, (b"", -ASK_AGAIN_SECONDS))
        if self._clock() - at < ASK_AGAIN_SECONDS or not self._is_up(peer):
            return
        reference = self._rng.bytes(REFERENCE_BYTES)
        self._asked[peer] = (reference, self._clock())
        self._notify(peer, ASK, reference, b"")

    def _answer(self, peer: int, reference: bytes) -> None:
        if self._own is not None and not self._answers.wait(str(peer)):
            self._answers.take(str(peer))
            self._notify(peer, PART, reference, self._own.to_bytes())

    def _take(self, peer: int, reference: bytes, payload: bytes) -> None:
        asked, _ = self._asked.get(peer, (b"", 0.0))
        if reference != asked or self._key is None or self._own is None or self._secret is not None:
            return
        # One answer to one question: what a peer may make this node verify is bounded by what it asks.
        self._asked[peer] = (b"", self._asked[peer][1])
        try:
            part = Partial.from_bytes_checked(peer, payload)
            check(part, self._key.public_shares[peer])
        except Blame as blame:
            self.refused |= blame.culprits
            self.blame(peer)
            log.warning("part of the identity secret refused", party=peer, reason=blame.reason)
            return
        self._parts[peer] = part
        if len(self._parts) >= self._key.t - 1:
            others = list(self._parts.values())[: self._key.t - 1]
            self._secret = combine([self._own, *others], self._key.t)
            self._parts.clear()
            self._asked.clear()
            log.info("identity secret found", parties=sorted([self._roster.me, *(part.party for part in others)]))
