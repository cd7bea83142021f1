"""Shares from strangers: their form, in whose name, and who is named when they do not fit together."""

from __future__ import annotations

import pytest

from keyquorum.algebra.curve import generator_times
from keyquorum.algebra.field import Q, to_bytes
from keyquorum.client import BadAnswer
from keyquorum.client.shares import Share, combine_shares

SECRET, K, PHI, DIGEST = 11, 7, 5, b"\x09" * 32
R = generator_times(K)
GOOD_R = "0x" + R.to_bytes().hex()
OTHER_R = "0x" + generator_times(8).to_bytes().hex()


def hexed(scalar: int) -> str:
    return "0x" + to_bytes(scalar % Q).hex()


def shares() -> dict[int, Share]:
    w = (int.from_bytes(DIGEST, "big") * PHI + R.x * SECRET * PHI) % Q
    u = K * PHI % Q
    return {
        1: Share(1, hexed(w - 5), hexed(u - 6), GOOD_R),
        2: Share(2, hexed(2), hexed(2), GOOD_R),
        4: Share(4, hexed(3), hexed(4), GOOD_R),
    }


def test_good_shares_combine() -> None:
    signature = combine_shares(shares(), DIGEST, generator_times(SECRET))
    assert 0 < signature.s <= Q // 2


def test_under_another_key_they_are_refused() -> None:
    with pytest.raises(BadAnswer) as caught:
        combine_shares(shares(), DIGEST, generator_times(12))
    assert caught.value.party is None


def test_who_stands_alone_with_its_point_is_named() -> None:
    found = shares()
    found[2].R = OTHER_R
    with pytest.raises(BadAnswer, match="agree on R") as caught:
        combine_shares(found, DIGEST, generator_times(SECRET))
    assert caught.value.party == 2


@pytest.mark.parametrize("parties", [(1, 2), (1, 2, 4)])
def test_nobody_is_named_when_it_is_one_word_against_another(parties: tuple[int, ...]) -> None:
    found = {party: share for party, share in shares().items() if party in parties}
    found[2].R = OTHER_R
    if 4 in found:
        found[4].R = "0x" + generator_times(9).to_bytes().hex()
    with pytest.raises(BadAnswer) as caught:
        combine_shares(found, DIGEST, generator_times(SECRET))
    assert caught.value.party is None


def test_the_case_of_hex_digits_is_no_disagreement() -> None:
    found = shares()
    found[2].R = "0x" + GOOD_R[2:].upper()
    assert combine_shares(found, DIGEST, generator_times(SECRET))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("w", "0x"),
        ("w", hexed(1)[2:]),
        ("w", "0x" + "f" * 64),
        ("w", "0x" + "zz" * 32),
        ("w", "0x" + " 1" * 32),
        ("w", "0x" + "１" * 64),
        ("u", hexed(1) + "00"),
        ("R", "0x02" + GOOD_R[4:68]),
        ("R", "0x04" + "00" * 64),
        ("R", GOOD_R[:-1] + ("0" if GOOD_R[-1] != "0" else "1")),
    ],
)
def test_a_malformed_share_names_its_sender(field: str, value: str) -> None:
    share = shares()[1]
    setattr(share, field, value)
    with pytest.raises(BadAnswer) as caught:
        share.check(1)
    assert caught.value.party == 1


def test_a_share_in_the_name_of_another_names_its_sender() -> None:
    with pytest.raises(BadAnswer, match="in the name of party 1") as caught:
        shares()[1].check(3)
    assert caught.value.party == 3
