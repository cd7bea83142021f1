"""Small protocols to exercise the kernel with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from keyquorum.algebra.rng import SeededRng
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.rounds.errors import Blame
from keyquorum.rounds.message import Message, octets, scalars
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import Session

SID = b"s" * 32


@dataclass(frozen=True, repr=False)
class Hash(Message):
    digest: Annotated[bytes, octets(32)]


@dataclass(frozen=True, repr=False)
class Coin(Message):
    coin: Annotated[bytes, octets(16)]


@dataclass(frozen=True, repr=False)
class Number(Message):
    x: Annotated[list[int], scalars("batch")]


async def toss(party: Party) -> bytes:
    """Blum's coin toss: commit, open, xor."""
    mine = Coin(party.rng.bytes(16))
    hashes = await party.broadcast(Hash(tagged_hash(Tag.ECHO, party.sid, party.me, mine.coin)))
    coins = await party.broadcast(mine)
    for j in party.others:
        if tagged_hash(Tag.ECHO, party.sid, j, coins[j].coin) != hashes[j].digest:
            raise Blame({j}, "opening does not match its commitment")
    value = 0
    for coin in coins.values():
        value ^= int.from_bytes(coin.coin, "big")
    return value.to_bytes(16, "big")


async def mixed(party: Party) -> tuple[int, int]:
    """A broadcast with private messages, then private messages only, then a broadcast."""
    base = 1000 * party.me
    numbers, private = await party.exchange(Number([base]), {j: Number([base + j]) for j in party.others})
    assert all(private[j].x == [1000 * j + party.me] for j in party.others)
    second = await party.scatter({j: Number([base + 500 + j]) for j in party.others})
    assert all(second[j].x == [1000 * j + 500 + party.me] for j in party.others)
    last = await party.broadcast(Number([base, base]))
    return sum(n.x[0] for n in numbers.values()), sum(n.x[1] for n in last.values())


def party(me: int, n: int = 3, seed: object = 0) -> Party:
    return Party(me, tuple(range(1, n + 1)), SID, SeededRng(f"{seed} {me}"))


def tossing(n: int = 3, protocol=toss, seed: object = 0) -> dict[int, Session]:
    parties = [party(i, n, seed) for i in range(1, n + 1)]
    return {p.me: Session(p, protocol(p)) for p in parties}
