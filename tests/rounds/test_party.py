"""Who may be a party, and what a round needs."""

from __future__ import annotations

import pytest

from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.rounds.party import MAX_PARTY_ID, Party, check_party_ids
from keyquorum.rounds.session import Session
from rounds.toss import Number, party

RNG = SeededRng(0)
SID = b"s" * 32


@pytest.mark.parametrize(
    "ids",
    [(0, 1, 2), (1, 2, Q), (1, 2, 2 * Q), (1, 2, 1 + Q), (-1, 1, 2), (1, 2, 1 << 256), (1, 2, True), (1, 2, "3"),
     (1, 2, 3.0), (1, 2, None), (1, 2, MAX_PARTY_ID + 1), (1, 1, 2), (1, 3, 2), (1,), ()],
)  # fmt: skip
def test_ids_that_are_no_distinct_sorted_shamir_coordinates_are_refused(ids: tuple) -> None:
    with pytest.raises(ValueError, match="part"):
        check_party_ids(ids)
    with pytest.raises(ValueError, match="part"):
        Party(1, ids, SID, RNG)


@pytest.mark.parametrize("me", [0, 4, True, "1"])
def test_a_party_is_one_of_the_parties(me: object) -> None:
    with pytest.raises(ValueError, match="takes part"):
        Party(me, (1, 2, 3), SID, RNG)  # type: ignore[arg-type]


@pytest.mark.parametrize("sid", [b"", b"s" * 31, b"s" * 33, "s" * 32])
def test_a_session_id_has_32_bytes(sid: object) -> None:
    with pytest.raises(ValueError, match="session id"):
        Party(1, (1, 2), sid, RNG)  # type: ignore[arg-type]


def test_a_party_does_not_print_its_randomness() -> None:
    assert "rng" not in repr(party(1))


@pytest.mark.parametrize("recipients", [[2], [2, 3, 4], [1, 2, 3], []])
def test_a_private_round_addresses_each_other_party_once(recipients: list[int]) -> None:
    p = party(1)

    async def scatter(p: Party) -> None:
        await p.scatter({j: Number([1]) for j in recipients})

    async def exchange(p: Party) -> None:
        await p.exchange(Number([1]), {j: Number([1]) for j in recipients})

    for protocol in (scatter, exchange):
        with pytest.raises(ValueError, match="one message for each"):
            Session(p, protocol(p)).start()
