"""Commit, then reveal: receipts count only as they were meant, and t - 1 dishonest nodes never get enough of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from random import Random
from typing import Any

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth.commitment import (
    MAX_AGE,
    Commitment,
    Receipt,
    check_receipts,
    parse_receipts,
    receipts_needed,
)
from keyquorum.auth.method import Committee
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import CLOCK_SKEW, Statement
from keyquorum.evm.address import address_of_private
from keyquorum.refusal import Invalid

TOKEN = "mfa2K9mZsQbCxW3dAvYt5rEuPn8Lg1"
ATTACKER = SessionPrivateKey.generate(SeededRng("attacker"))


def secret(party: int) -> bytes:
    return party.to_bytes(32, "big")


def committee_of(n: int, t: int, epoch: int = 3) -> Committee:
    return Committee({party: address_of_private(secret(party)) for party in range(1, n + 1)}, t, epoch)


@pytest.fixture
def commitment(world: Any) -> Commitment:
    return Commitment.to_token("discord", TOKEN, world.statement)


def receipts_for(commitment: Commitment, parties: range | tuple[int, ...], at: int, epoch: int = 3) -> list[Receipt]:
    return [Receipt.sign(commitment, epoch, party, at, secret(party)) for party in parties]


# ---- what a commitment says -----------------------------------------------------------------------------------------


def test_a_binding_is_for_one_method_token_session_key_and_challenge(world: Any) -> None:
    statement = world.statement
    one = Commitment.to_token("discord", TOKEN, statement)
    for other in (
        Commitment.to_token("discord", TOKEN[:-1] + "x", statement),
        Commitment.to_token("discord2", TOKEN, statement),
        Commitment.to_token("discord", TOKEN, replace(statement, session=ATTACKER.public)),
        Commitment.to_token("discord", TOKEN, replace(statement, scopes=(1,))),
        Commitment.to_token("discord", TOKEN, replace(statement, nonce="cd" * 16)),
    ):
        assert other.binding != one.binding


def test_a_token_has_one_name_whatever_it_is_committed_to(world: Any) -> None:
    one = Commitment.to_token("discord", TOKEN, world.statement)
    other = Commitment.to_token("discord", TOKEN, replace(world.statement, session=ATTACKER.public))
    assert one.token_digest == other.token_digest
    assert one.token_digest != Commitment.to_token("discord", "z" + TOKEN, world.statement).token_digest
    assert one.token_digest != Commitment.to_token("discord2", TOKEN, world.statement).token_digest


def test_spellings_that_a_careless_provider_confuses_have_one_name(world: Any) -> None:
    def named(token: str) -> bytes:
        return Commitment.to_token("discord", token, world.statement).token_digest

    assert named("MTIz.abcQ.xyzA") == named("MTIz.abcR.xyzB") == named("mtiz.ABCQ.xyza")
    assert named("MTIz.abcQ.xyzA") != named("MTI0.abcQ.xyyA") != named("MTIzabcQxyzA")


def test_neither_token_nor_secret_can_be_read_from_what_nodes_are_shown(commitment: Commitment) -> None:
    assert TOKEN not in repr(commitment) and TOKEN not in str(commitment.to_json())


def test_a_commitment_survives_its_journey(commitment: Commitment) -> None:
    assert Commitment.from_json(commitment.to_json()) == commitment


@pytest.mark.parametrize(
    "change",
    [
        {"token_digest": "0x00"},
        {"token_digest": 5},
        {"binding": "0x" + "00" * 31},
        {"binding": "0x" + "AA" * 32},
        {"binding": None},
        {"statement": {}},
        {"statement": None},
        {"method": "siwe"},
        {"method": "nothing"},
        {"method": 5},
        {"token": TOKEN},
    ],
)
def test_a_commitment_of_another_form_is_refused(commitment: Commitment, change: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        Commitment.from_json(commitment.to_json() | change)
    assert caught.value.status == 400


# ---- what a receipt is worth ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "t", "w"), [(1, 1, 1), (3, 2, 3), (3, 3, 3), (4, 3, 4), (7, 5, 6), (10, 7, 9), (30, 21, 26)]
)
def test_the_number_of_receipts_is_the_least_that_two_bindings_cannot_both_have(n: int, t: int, w: int) -> None:
    assert receipts_needed(n, t) == w <= n
    assert 2 * w - n > t - 1 >= 2 * (w - 1) - n


@pytest.mark.parametrize(("n", "t"), [(0, 0), (3, 0), (3, 4), (-1, -1)])
def test_a_committee_that_cannot_be_has_no_number(n: int, t: int) -> None:
    with pytest.raises(ValueError):
        receipts_needed(n, t)


def test_enough_receipts_of_different_nodes_are_accepted_with_the_latest_time(
    world: Any, commitment: Commitment
) -> None:
    now = world.now
    receipts = [Receipt.sign(commitment, 3, party, now - party, secret(party)) for party in (4, 2, 3, 1)]
    assert check_receipts(receipts, commitment, committee_of(4, 3), now) == now - 1
    assert parse_receipts([one.to_json() for one in receipts]) == receipts


def test_one_receipt_too_few_is_refused(world: Any, commitment: Commitment, refused: Callable[..., Any]) -> None:
    for n, t in ((4, 3), (7, 5), (10, 7)):
        w = receipts_needed(n, t)
        assert check_receipts(
            receipts_for(commitment, range(1, w + 1), world.now), commitment, committee_of(n, t), world.now
        )
        with refused("too_few_receipts", 401):
            check_receipts(receipts_for(commitment, range(1, w), world.now), commitment, committee_of(n, t), world.now)


def test_one_node_does_not_count_twice(world: Any, commitment: Commitment, refused: Callable[..., Any]) -> None:
    receipts = receipts_for(commitment, (1, 2, 3), world.now)
    for second in (receipts[0], Receipt.sign(commitment, 3, 1, world.now - 1, secret(1))):
        with refused("bad_receipt", 401):
            check_receipts([*receipts, second], commitment, committee_of(4, 3), world.now)


def test_strangers_do_not_count(world: Any, commitment: Commitment, refused: Callable[..., Any]) -> None:
    receipts = receipts_for(commitment, (1, 2, 3), world.now)
    for stranger in (
        Receipt.sign(commitment, 3, 5, world.now, secret(5)),  # not in the committee
        Receipt.sign(commitment, 3, 4, world.now, secret(5)),  # in a member's name
        Receipt.sign(commitment, 3, 4, world.now, secret(1)),  # a member in another's name
        replace(Receipt.sign(commitment, 3, 1, world.now, secret(1)), party=4),
    ):
        with refused("bad_receipt", 401):
            check_receipts([*receipts, stranger], commitment, committee_of(4, 3), world.now)


def test_a_receipt_counts_only_for_what_it_was_signed_for(
    world: Any, commitment: Commitment, refused: Callable[..., Any]
) -> None:
    statement = world.statement
    receipts = receipts_for(commitment, (1, 2, 3), world.now)
    elsewhere = replace(statement, network="eip155:1:" + statement.network.rpartition(":")[2])
    for other in (
        replace(commitment, binding=bytes(32)),
        replace(commitment, token_digest=bytes(32)),
        replace(commitment, statement=elsewhere),
        Commitment.to_token("discord", TOKEN, replace(statement, session=ATTACKER.public)),
        Commitment.to_token("discord", TOKEN + "x", statement),
    ):
        with refused("bad_receipt"):
            check_receipts(
                [*receipts, Receipt.sign(other, 3, 4, world.now, secret(4))], commitment, committee_of(4, 3), world.now
            )
    for receipt in (
        Receipt.sign(commitment, 2, 4, world.now, secret(4)),  # of the epoch before
        replace(Receipt.sign(commitment, 3, 4, world.now, secret(4)), issued_at=world.now - 1),
    ):
        with refused("bad_receipt"):
            check_receipts([*receipts, receipt], commitment, committee_of(4, 3), world.now)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (CLOCK_SKEW, None),
        (CLOCK_SKEW + 1, "clock_skew"),
        (-MAX_AGE - CLOCK_SKEW, None),
        (-MAX_AGE - CLOCK_SKEW - 1, "login_too_old"),
    ],
)
def test_every_receipt_is_fresh(
    world: Any, commitment: Commitment, seconds: int, code: str | None, refused: Callable[..., Any]
) -> None:
    receipts = [
        *receipts_for(commitment, (1, 2, 3), world.now),
        *receipts_for(commitment, (4,), world.now + seconds),
    ]
    if code is None:
        assert check_receipts(receipts, commitment, committee_of(4, 3), world.now)
        return
    with refused(code, 401):
        check_receipts(receipts, commitment, committee_of(4, 3), world.now)


def test_other_forms_of_a_good_signature_are_refused(
    world: Any, commitment: Commitment, refused: Callable[..., Any]
) -> None:
    from keyquorum.algebra.field import Q

    good = Receipt.sign(commitment, 3, 4, world.now, secret(4))
    r, s, v = good.signature[:32], int.from_bytes(good.signature[32:64], "big"), good.signature[64]
    twin = r + (Q - s).to_bytes(32, "big") + bytes([55 - v])
    for signature in (twin, r + bytes(32) + bytes([v]), good.signature[:64] + b"\x1d", bytes(65)):
        with refused("bad_receipt"):
            receipts = [*receipts_for(commitment, (1, 2, 3), world.now), replace(good, signature=signature)]
            check_receipts(receipts, commitment, committee_of(4, 3), world.now)


@pytest.mark.parametrize(
    "change",
    [
        {"party": 0},
        {"party": -1},
        {"party": True},
        {"party": "1"},
        {"party": 2**16},
        {"issued_at": -1},
        {"issued_at": 1.5},
        {"issued_at": None},
        {"signature": "0x"},
        {"signature": "0x" + "00" * 64},
        {"signature": "0x" + "00" * 66},
        {"signature": 5},
        {"more": 1},
    ],
)
def test_a_receipt_of_another_form_is_malformed(world: Any, commitment: Commitment, change: dict[str, Any]) -> None:
    good = Receipt.sign(commitment, 3, 1, world.now, secret(1)).to_json()
    with pytest.raises(Invalid) as caught:
        Receipt.from_json(good | change)
    assert caught.value.status == 400
    assert Receipt.from_json(good).to_json() == good


def test_a_node_that_does_not_know_its_committee_is_not_ready(world: Any, commitment: Commitment) -> None:
    with pytest.raises(Invalid) as caught:
        check_receipts([], commitment, Committee(), world.now)
    assert (caught.value.code, caught.value.status) == ("not_ready", 503)


# ---- the attack that all this is for --------------------------------------------------------------------------------


@dataclass
class Node:
    """An honest node signs the first binding of each token; a dishonest one signs whatever it is asked."""

    party: int
    honest: bool
    bound: dict[bytes, bytes] = field(default_factory=dict)

    def commits(self, commitment: Commitment) -> bool:
        return (
            not self.honest or self.bound.setdefault(commitment.token_digest, commitment.binding) == commitment.binding
        )


def attack(n: int, first: set[int], bad: set[int], users: Commitment, theirs: Commitment) -> list[int]:
    """The user reveals the token once `first` have signed; return the nodes that then sign for the colluders `bad`."""
    nodes = [Node(party, party not in bad) for party in range(1, n + 1)]
    assert all(node.commits(users) for node in nodes if node.party in first)
    return [node.party for node in nodes if node.commits(theirs)]


def subsets(n: int, size: int) -> Iterator[set[int]]:
    return map(set, combinations(range(1, n + 1), size))


@pytest.fixture
def both(world: Any) -> tuple[Commitment, Commitment]:
    """The user's commitment, and the colluders' to the same token for a session key of theirs."""
    statement: Statement = world.statement
    return (
        Commitment.to_token("discord", TOKEN, statement),
        Commitment.to_token("discord", TOKEN, replace(statement, session=ATTACKER.public)),
    )


@pytest.mark.parametrize("n", range(4, 11))
def test_no_set_of_fewer_than_t_colluders_gets_enough_receipts_whoever_signed_first(
    n: int, both: tuple[Commitment, Commitment]
) -> None:
    """Exhaustive: all thresholds, all colluders, all sets of first receivers that let the user go on."""
    for t in range(2, n + 1):
        w = receipts_needed(n, t)
        # Fewer colluders have less: all that c of them can do, c + 1 can. The largest coalition stands for all.
        for bad in subsets(n, t - 1):
            for first in subsets(n, w):
                assert len(attack(n, first, bad, *both)) < w


@pytest.mark.parametrize("n", range(4, 11))
def test_neither_do_fewer_colluders_nor_more_first_receivers_change_that(
    n: int, both: tuple[Commitment, Commitment]
) -> None:
    random = Random(n)
    for t in range(2, n + 1):
        w = receipts_needed(n, t)
        for _ in range(100):
            bad = set(random.sample(range(1, n + 1), random.randint(0, t - 1)))
            first = set(random.sample(range(1, n + 1), random.randint(w, n)))
            assert len(attack(n, first, bad, *both)) < w


@pytest.mark.parametrize("n", range(4, 11))
def test_with_one_receipt_less_t_minus_1_colluders_would_log_in_as_the_user(
    n: int, both: tuple[Commitment, Commitment]
) -> None:
    for t in range(2, n + 1):
        less = receipts_needed(n, t) - 1
        bad = set(range(1, t))
        # The colluders see to it that the user's commitment reaches them first and as few honest nodes as possible.
        first = set(range(1, less + 1))
        signed = attack(n, first, bad, *both)
        assert len(signed) >= less, f"n={n} t={t}: the bound would be higher than it need be"


@pytest.mark.parametrize(("n", "t"), [(4, 3), (7, 5), (10, 7)])
def test_t_receipts_would_not_be_enough(n: int, t: int, both: tuple[Commitment, Commitment]) -> None:
    bad = set(range(1, t))
    assert len(attack(n, set(range(1, t + 1)), bad, *both)) >= t


@pytest.mark.parametrize(("n", "t"), [(4, 3), (5, 4), (7, 5), (10, 7)])
def test_the_colluders_real_receipts_are_refused_and_the_users_accepted(
    world: Any, n: int, t: int, both: tuple[Commitment, Commitment]
) -> None:
    users, theirs = both
    committee, random = committee_of(n, t), Random(n)
    w = receipts_needed(n, t)
    for _ in range(10):
        bad = set(random.sample(range(1, n + 1), t - 1))
        first = set(random.sample(range(1, n + 1), w))
        assert check_receipts(receipts_for(users, tuple(first), world.now), users, committee, world.now)
        signed = attack(n, first, bad, users, theirs)
        own = receipts_for(theirs, tuple(signed), world.now)
        # Whatever they add: the user's receipts, a colluder twice, honest names over colluders' signatures.
        rest = [party for party in range(1, n + 1) if party not in signed]
        colluder = secret(min(bad))
        for more in (
            [],
            receipts_for(users, tuple(rest), world.now),
            [own[0]] * len(rest),
            [Receipt.sign(theirs, 3, party, world.now, colluder) for party in rest],
        ):
            with pytest.raises(Invalid) as caught:
                check_receipts([*own, *more], theirs, committee, world.now)
            assert caught.value.code in ("too_few_receipts", "bad_receipt")
