"""What is bound to a session and a party is worth nothing in another one, shown by runs and not by known values.

Each thing is taken from a real run that differs in one ingredient, with the same secrets and the same randomness, so
that nothing but the binding tells the two apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dealer import DIGEST, SID, deal_inventories, deal_key, party_of, sessions_of, signing_sessions
from keyquorum.algebra.curve import generator_times
from keyquorum.algebra.field import Q, random_scalars
from keyquorum.algebra.polynomial import evaluate
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols import base_ot, dkg, zero_share
from keyquorum.protocols import sign as sign_module
from keyquorum.protocols.dkg import Opening, Shares, generate
from keyquorum.protocols.multiply import CorrelationReceiver, CorrelationSender
from keyquorum.protocols.sign import sign
from keyquorum.rounds.errors import Blame
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import Envelope, Session
from keyquorum.rounds.simulate import Outcome, simulate
from ot_dealer import deal_seeds

OTHER = b"o" * 32
SIGNERS = (1, 2, 4)
KEYS = deal_key(4, 3)
CHEAT = 2


def only_the_cheat_is_blamed(outcome: Outcome, reason: str) -> None:
    honest = {j: error for j, error in outcome.errors.items() if j != CHEAT}
    assert honest
    assert not set(outcome.results) - {CHEAT}
    for error in honest.values():
        assert isinstance(error, Blame)
        assert (error.culprits, reason in error.reason) == ({CHEAT}, True), error


# -- signing ----------------------------------------------------------------------------------------------------------


def signing_as(me: int, sid: bytes, show: bytes | None = None) -> tuple[Outcome, bytes]:
    """A run in which party `me` has one and the same nonce and salt each time; it commits to them, or shows `show`."""
    pools, shown = deal_inventories(SIGNERS, 1), []

    class Showing(Party):
        async def exchange(self, to_all: Any, to_each: Any) -> Any:
            said = sign_module.Commitment(show) if show and isinstance(to_all, sign_module.Commitment) else to_all
            shown.append(said.digest)
            return await super().exchange(said, to_each)

    sessions = signing_sessions(KEYS, pools, SIGNERS, sid=sid)
    sessions[me].close()
    party = Showing(me, SIGNERS, sid, SeededRng("the same"))
    sessions[me] = Session(party, sign(party, KEYS[me], [DIGEST], deal_inventories(SIGNERS, 1)[me]))
    return simulate(sessions, 0), shown[0]


@pytest.mark.parametrize(("party", "sid"), [(CHEAT, OTHER), (1, SID)], ids=["another session", "another party"])
def test_a_commitment_to_the_same_nonce_from_elsewhere_does_not_open(party: int, sid: bytes) -> None:
    honest, commitment = signing_as(party, sid)
    assert not honest.errors
    outcome, _ = signing_as(CHEAT, SID, commitment)
    only_the_cheat_is_blamed(outcome, "opening")


def test_the_mask_of_a_signature_is_a_secret_of_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """spec/sign.md 4.1: u = phi k is shown to whoever combines, so with a phi that he knows he has k, and the key."""
    secrets, drawn, real = [], [], sign_module._draw
    monkeypatch.setattr(sign_module, "_draw", lambda *args: drawn.append(real(*args)) or drawn[-1])
    for seed in ("one", "two"):
        drawn.clear()
        sessions = signing_sessions(KEYS, deal_inventories(SIGNERS, 2), SIGNERS, [DIGEST, b"\x22" * 32], seed)
        outcome = simulate(sessions, 0)
        assert not outcome.errors
        for row in (0, 1):
            k, phi = (sum(getattr(own, name)[row] for own in drawn) % Q for name in ("r", "phi"))
            u = sum(result.rows[row].u for result in outcome.results.values()) % Q
            assert next(iter(outcome.results.values())).R[row] == generator_times(k)
            # The mask is what the spec says, and neither it nor a known multiple of it is the nonce.
            assert u == phi * k % Q
            assert not {own.phi[row] for own in drawn} & set(range(1000))
            secrets += [phi, *(own.phi[row] for own in drawn), *(own.r[row] for own in drawn)]
    assert len(set(secrets)) == len(secrets)


# -- key generation ---------------------------------------------------------------------------------------------------


def opening_of(party: int, sid: bytes) -> Opening:
    """What an honest dealer opens in a whole run."""
    seen: dict[int, bytes] = {}

    def watch(envelope: Envelope, to: int) -> list[Envelope]:
        if envelope.round == 2 and envelope.to is None:
            seen[envelope.sender] = envelope.payload
        return [envelope]

    simulate(sessions_of((1, 2, 3), lambda p: generate(p, 2, 1), sid=sid), 0, tamper=watch)
    return Opening.decode(seen[party], {"batch": 1, "t": 2})


@pytest.mark.parametrize(("dealer", "sid"), [(CHEAT, OTHER), (1, SID)], ids=["another session", "another dealer"])
def test_a_proof_that_an_honest_dealer_made_elsewhere_is_refused(dealer: int, sid: bytes) -> None:
    """The dealer commits to it properly, and knows the polynomial: nothing but the proof's context is wrong."""
    opening = opening_of(dealer, sid)
    f = random_scalars(party_of(dealer, (1, 2, 3), sid=sid).rng, 2)

    async def dealing(party: Any) -> Any:
        await party.broadcast(dkg.Commitment(dkg._commit(SID, party.me, opening)))
        return await party.exchange(opening, {j: Shares([evaluate(f, j)]) for j in party.others})

    outcome = simulate(sessions_of((1, 2, 3), lambda p: dealing(p) if p.me == CHEAT else generate(p, 2, 1)), 0)
    only_the_cheat_is_blamed(outcome, "proof")


@pytest.mark.parametrize(("dealer", "sid"), [(CHEAT, OTHER), (1, SID)], ids=["another session", "another dealer"])
def test_a_commitment_that_was_made_elsewhere_does_not_open(dealer: int, sid: bytes) -> None:
    opening = opening_of(CHEAT, SID)
    shown = dkg.Commitment(dkg._commit(sid, dealer, opening))

    async def dealing(party: Any) -> Any:
        f = random_scalars(party.rng, 2)
        await party.broadcast(shown)
        return await party.exchange(opening, {j: Shares([evaluate(f, j)]) for j in party.others})

    outcome = simulate(sessions_of((1, 2, 3), lambda p: dealing(p) if p.me == CHEAT else generate(p, 2, 1)), 0)
    only_the_cheat_is_blamed(outcome, "opening")


# -- between two ------------------------------------------------------------------------------------------------------

PAIRS = [(OTHER, 3, 8), (SID, 4, 8), (SID, 3, 9)]
IDS = ["session", "first party", "second party"]


def agreed(first: tuple[bytes, int, int], second: tuple[bytes, int, int]) -> bool:
    """Whether the chooser's base OT of `first` and the responder's of `second` have seeds in common."""
    state, message = base_ot.choose(*first, SeededRng("chooser"))
    pairs, answer = base_ot.respond(*second, SeededRng("responder"), message)
    chosen = base_ot.finish(state, answer)
    bits = [chosen.delta[k // 8] >> k % 8 & 1 for k in range(128)]
    return any(bytes(chosen.seeds[k]) == bytes((pairs.zeros, pairs.ones)[bit][k]) for k, bit in enumerate(bits))


@pytest.mark.parametrize("other", PAIRS, ids=IDS)
def test_base_ots_of_two_sessions_have_no_seed_in_common(other: tuple[bytes, int, int]) -> None:
    assert agreed((SID, 3, 8), (SID, 3, 8))
    assert not agreed((SID, 3, 8), other)


def multiplied(first: tuple[bytes, int, int], second: tuple[bytes, int, int]) -> None:
    chosen, pairs = deal_seeds(1)
    sender, receiver = CorrelationSender(*first, chosen), CorrelationReceiver(*second, pairs)
    pending, request = receiver.request(0, 2, SeededRng("receiver"))
    _, reply = sender.extend(0, 2, request, SeededRng("sender"))
    receiver.accept(pending, reply)


@pytest.mark.parametrize("other", PAIRS, ids=IDS)
def test_an_extension_of_another_session_is_caught(other: tuple[bytes, int, int]) -> None:
    multiplied((SID, 3, 8), (SID, 3, 8))
    with pytest.raises(Blame):
        multiplied((SID, 3, 8), other)


def zero_seeds(at_the_other: Callable[[bytes, int, int], tuple[bytes, int, int]]) -> bytes:
    one, first = zero_share.commit(SID, 1, 2, SeededRng("one"))
    other, second = zero_share.commit(*at_the_other(SID, 2, 1), SeededRng("other"))
    mine, my_opening = zero_share.reveal(one, second)
    theirs, their_opening = zero_share.reveal(other, first)
    found = zero_share.finish(mine, their_opening)
    assert found == zero_share.finish(theirs, my_opening)
    return found


@pytest.mark.parametrize("change", [lambda s, me, peer: (OTHER, me, peer), lambda s, me, peer: (s, 3, peer)],
                         ids=["session", "party"])  # fmt: skip
def test_a_commitment_to_a_zero_seed_belongs_to_its_session_and_party(change: Any) -> None:
    zero_seeds(lambda *same: same)
    with pytest.raises(Blame):
        zero_seeds(change)


@pytest.mark.parametrize("other", [{"sid": OTHER}, {"context": (b"other", [DIGEST])}], ids=["session", "key"])
def test_zero_shares_of_two_runs_have_nothing_in_common(other: dict[str, Any]) -> None:
    seeds = {2: b"s" * 32, 4: b"t" * 32}

    def shares(sid: bytes = SID, context: tuple[Any, ...] = (b"key", [DIGEST])) -> list[int]:
        return zero_share.share(sid, 1, SIGNERS, seeds, 2, *context)

    assert shares() == shares()
    assert not set(shares()) & set(shares(**other))
