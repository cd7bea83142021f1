"""The identity secret: any t nodes find the same 32 bytes, and a wrong part names its sender."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import pytest

from dealer import deal_key, make_keys
from keyquorum.algebra.curve import Point, generator_times, hash_to_point
from keyquorum.algebra.field import Q, to_bytes
from keyquorum.algebra.polynomial import interpolate_at_zero
from keyquorum.algebra.rng import SeededRng
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.protocols.identity_secret import PARTIAL_BYTES, P, Partial, check, combine, conceal, partial
from keyquorum.protocols.key_share import KeyShare
from keyquorum.rounds.errors import Blame

KEYS = deal_key(4, 3, "identity")
PARTS = {j: partial(key, SeededRng(f"part {j}")) for j, key in KEYS.items()}


def expected(keys: dict[int, KeyShare]) -> bytes:
    """The secret from the whole key, which no node ever has."""
    t = keys[min(keys)].t
    x = interpolate_at_zero({j: keys[j].key_share for j in sorted(keys)[:t]})
    return tagged_hash(Tag.IDENTITY_KEY, hash_to_point(Tag.IDENTITY_POINT).times_public(x).to_bytes())


def checked(key: KeyShare, data: bytes, sender: int) -> Partial:
    part = Partial.from_bytes_checked(sender, data)
    check(part, key.public_shares[sender])
    return part


@pytest.mark.parametrize(("n", "t"), [(2, 2), (3, 2), (4, 3), (5, 4), (7, 5)])
def test_any_t_of_n_give_the_same_bytes_as_the_whole_key_would(n: int, t: int) -> None:
    keys = {i: pending.keys[0] for i, pending in make_keys(n, t).items()}
    sent = {i: partial(key, SeededRng(f"{i}")).to_bytes() for i, key in keys.items()}
    for chosen in combinations(keys, t):
        parts = [checked(keys[min(keys)], sent[j], j) for j in chosen]
        assert combine(reversed(parts), t) == expected(keys)


@pytest.mark.parametrize("ids", [(1, 2, 3, 4), (7, 300, 65535, 2)])
def test_the_parties_numbers_are_any(ids: tuple[int, ...]) -> None:
    keys = deal_key(4, 3, "ids", ids)
    assert combine([partial(keys[j], SeededRng("r")) for j in ids[1:]], 3) == expected(keys)


def test_the_secret_of_a_known_key_never_changes() -> None:
    """Ids on the chain are made with it: a change of any step here would make everybody somebody else."""
    assert P.to_compressed().hex() == "02e408b100d0db1dbebe0a910777c04d874917cf7c7abf8e32366d6641fe809748"
    assert (
        combine([PARTS[1], PARTS[2], PARTS[3]], 3).hex()
        == "54983f51889e688e3ea60c4f6172bf09a3f5b96a34c5975ba0304bb2f4c0701f"
    )
    name = b"https://accounts.example\0subject"
    assert conceal(b"s" * 32, 6, name).hex() == "d0bcaca8b9bdc4307fe81cc4e1931e618bc8881cfeadbc2ec4cc66bed71d4b0d"


def test_another_key_has_another_secret() -> None:
    other = deal_key(4, 3, "another")
    assert expected(other) != expected(KEYS)


def test_a_concealed_id_depends_on_secret_type_and_name() -> None:
    digest = tagged_hash(Tag.CONCEALED_ID, 20, b"ada@example.org")
    assert conceal(b"k" * 32, 20, b"ada@example.org") == hmac.new(b"k" * 32, digest, hashlib.sha256).digest()
    made = {conceal(*case) for case in (
        (b"k" * 32, 20, b"ada"), (b"k" * 32, 21, b"ada"), (b"k" * 32, 20, b"adb"), (b"l" * 32, 20, b"ada"),
    )}  # fmt: skip
    assert len(made) == 4


def test_too_few_too_many_or_twice_the_same_party_give_nothing() -> None:
    for parts in ([PARTS[1], PARTS[2]], list(PARTS.values()), [PARTS[1], PARTS[2], PARTS[2]], []):
        with pytest.raises(ValueError, match="3 different parties"):
            combine(parts, 3)


def test_the_randomness_is_in_the_proof_only() -> None:
    again = partial(KEYS[1], SeededRng("other"))
    assert again.Y == PARTS[1].Y
    assert again.proof != PARTS[1].proof
    assert partial(KEYS[1], SeededRng("part 1")) == PARTS[1]


def test_the_secret_share_is_multiplied_in_constant_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable-time multiplication happens while a part is made."""

    def forbidden(self: Point, scalar: int) -> Point:
        raise AssertionError("variable time")

    monkeypatch.setattr(Point, "times_public", forbidden)
    assert partial(KEYS[1], SeededRng("part 1")) == PARTS[1]


def wrong_parts() -> Iterator[tuple[str, Partial]]:
    good, other = PARTS[2], PARTS[3]
    yield "another party's part", replace(other, party=2)
    yield "another party's proof", replace(good, proof=other.proof)
    yield "another party's point", replace(good, Y=other.Y)
    yield "a point of nobody", replace(good, Y=generator_times(5))
    yield "the negative point", replace(good, Y=-good.Y)
    yield "the part of another key", partial(deal_key(4, 3, "another")[2], SeededRng("r"))
    stranger = replace(KEYS[2], key_share=5, public_shares=KEYS[2].public_shares | {2: generator_times(5)})
    yield "a sound proof for another share", partial(stranger, SeededRng("r"))
    renamed = replace(KEYS[3], party_id=2, public_shares=KEYS[3].public_shares | {2: KEYS[3].public_shares[3]})
    yield "another's share under the own name", partial(renamed, SeededRng("r"))


@pytest.mark.parametrize(("what", "part"), list(wrong_parts()), ids=[what for what, _ in wrong_parts()])
def test_a_wrong_part_blames_its_sender(what: str, part: Partial) -> None:
    with pytest.raises(Blame) as blame:
        check(part, KEYS[1].public_shares[2])
    assert blame.value.culprits == {2}, what


def test_a_part_of_one_party_played_back_by_another_is_refused() -> None:
    for j in (1, 3, 4):
        with pytest.raises(Blame) as blame:
            checked(KEYS[1], PARTS[2].to_bytes(), j)
        assert blame.value.culprits == {j}


def mutations(data: bytes) -> Iterator[bytes]:
    """Every field replaced by what it could be, and every byte changed once."""
    points = [data[k : k + 65] for k in (0, 65, 130)]
    others = [generator_times(1).to_bytes(), generator_times(Q - 1).to_bytes(), *points, bytes(65), b"\x04" + bytes(64),
              b"\x04" + b"\xff" * 64, b"\x06" + points[0][1:], points[0][:64] + bytes([points[0][64] ^ 1])]  # fmt: skip
    for at in range(3):
        for other in others:
            if other != points[at]:
                yield b"".join([*points[:at], other, *points[at + 1 :], data[195:]])
    for z in (0, 1, Q - 1):
        yield data[:195] + to_bytes(z)
    for z in (Q, 2**256 - 1):
        yield data[:195] + z.to_bytes(32, "big")
    yield from (data[:-1], data + b"\0", b"", data[:65], data[65:])
    for at in range(len(data)):
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_every_mutation_of_every_field_blames_the_sender() -> None:
    data = PARTS[2].to_bytes()
    assert len(data) == PARTIAL_BYTES
    assert checked(KEYS[1], data, 2) == PARTS[2]
    cases = list(mutations(data))
    assert len(cases) > PARTIAL_BYTES
    for case in cases:
        with pytest.raises(Blame) as blame:
            checked(KEYS[1], case, 2)
        assert blame.value.culprits == {2}


def test_nothing_secret_is_shown() -> None:
    shown = repr(PARTS[1]) + repr(KEYS[1])
    assert PARTS[1].Y.to_compressed().hex() not in shown
    assert "Y=" not in shown


@pytest.mark.parametrize("seed", range(20))
def test_in_a_random_network_everybody_finds_it_and_only_the_cheat_is_named(seed: int) -> None:
    """Each node gets the others' parts in a random order; up to n - t of them are random mutations."""
    rng = SeededRng(f"simulation {seed}")
    n = 3 + rng.bytes(1)[0] % 5
    t = 2 * n // 3 + 1
    keys = deal_key(n, t, seed)
    cheats = {1 + rng.bytes(1)[0] % n for _ in range(n - t)}
    for me in keys:
        found, named = [partial(keys[me], rng)], set()
        for j in sorted(keys.keys() - {me}, key=lambda _: rng.bytes(4)):
            data = bytearray(partial(keys[j], rng).to_bytes())
            if j in cheats:
                data[int.from_bytes(rng.bytes(2), "big") % len(data)] ^= 1 + rng.bytes(1)[0] % 255
            try:
                found.append(checked(keys[me], bytes(data), j))
            except Blame as blame:
                named |= blame.culprits
        assert named == cheats - {me}
        assert combine(found[:t], t) == expected(keys)
