"""Records of key shares: the round trip, and everything that is refused."""

from __future__ import annotations

import pytest

from dealer import make_keys
from keyquorum.algebra.field import Q
from keyquorum.protocols.key_share import KeyShare, PendingKeys, record_bytes

PENDING = make_keys(4, 3, 2)[2]
KEY = PENDING.keys[0]
RECORD = KEY.to_bytes()


def test_a_record_makes_the_round_trip() -> None:
    assert KeyShare.from_bytes_checked(RECORD) == KEY
    assert len(RECORD) == record_bytes(4)
    assert PendingKeys.from_bytes_checked(PENDING.to_bytes()) == PENDING


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x02" + RECORD[1:],
        RECORD[:1] + b"\0\1" + RECORD[3:],  # t = 1
        RECORD[:1] + b"\0\5" + RECORD[3:],  # t > n
        RECORD[:3] + b"\0\1" + RECORD[5:],  # another party's id
        RECORD[:3] + b"\0\x09" + RECORD[5:],  # an outsider's id
        RECORD[:5] + b"\0\3" + RECORD[7:],  # n
        RECORD[:7] + b"\0\0" + RECORD[9:],  # PartyId 0
        RECORD[:7] + RECORD[9:11] * 2 + RECORD[11:],  # the same PartyId twice
        RECORD[:15] + bytes(32) + RECORD[47:],  # share 0
        RECORD[:15] + Q.to_bytes(32, "big") + RECORD[47:],
        RECORD[:46] + bytes([RECORD[46] ^ 1]) + RECORD[47:],  # one bit of the share
        RECORD[:47] + b"\x02" + RECORD[48:],  # the form of the key
        RECORD[:-1] + bytes([RECORD[-1] ^ 1]),  # a public share off the curve
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"key share|party|parties|scalar|point"):
        KeyShare.from_bytes_checked(data)


@pytest.mark.parametrize(
    "data", [RECORD[:1], RECORD[:6], RECORD[:7], RECORD[:-1], RECORD + b"\0", RECORD + RECORD[-65:]]
)
def test_a_record_of_another_length_is_refused_before_it_is_read(data: bytes) -> None:
    with pytest.raises(ValueError, match="wrong length"):
        KeyShare.from_bytes_checked(data)


@pytest.mark.parametrize("data", [b"", bytes(32), PENDING.to_bytes()[:-1], PENDING.to_bytes() + b"\0"])
def test_a_damaged_pending_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="whole number"):
        PendingKeys.from_bytes_checked(data)


def test_the_secret_is_not_printed() -> None:
    for text in (repr(KEY), repr(PENDING)):
        assert str(KEY.key_share) not in text
        assert f"{KEY.key_share:x}" not in text
