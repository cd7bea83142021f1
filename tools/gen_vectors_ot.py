"""Write the test vectors of base OT, OT extension and multiplication: seeded runs, messages as hashes.

Usage: python tools/gen_vectors_ot.py > tests/vectors/ot.json. A test makes them again and compares; a difference
is a change of the protocol on the wire.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols.base_ot import ChosenSeeds, SeedPairs, choose, finish, respond
from keyquorum.protocols.multiply import CorrelationReceiver, CorrelationSender

SENDER, RECEIVER = 2, 5
SIZES = ((0, 1), (1, 3), (7, 16), (8, 17))


def digest(data: bytes) -> str:
    """Return the hash under which a message stands in the file."""
    return hashlib.sha256(data).hexdigest()


def numbers(values: list[int]) -> str:
    """Return the hash of a list of scalars."""
    return digest(b"".join(value.to_bytes(32, "big") for value in values))


def base_ot(seed: int, sid: bytes) -> tuple[ChosenSeeds, SeedPairs, dict[str, Any]]:
    """Run base OT once."""
    rng = SeededRng(seed)
    state, request = choose(sid, SENDER, RECEIVER, rng.fork("chooser"))
    pairs, answer = respond(sid, SENDER, RECEIVER, rng.fork("responder"), request)
    chosen = finish(state, answer)
    vector = {
        "request": digest(request),
        "answer": digest(answer),
        "delta": bytes(chosen.delta).hex(),
        "chosen": digest(chosen.seeds.tobytes()),
        "zeros": digest(pairs.zeros.tobytes()),
        "ones": digest(pairs.ones.tobytes()),
    }
    return chosen, pairs, vector


def batches(seed: int, sid: bytes, chosen: ChosenSeeds, pairs: SeedPairs) -> list[dict[str, Any]]:
    """Make batches of several sizes on one pair of seeds."""
    sender = CorrelationSender(sid, SENDER, RECEIVER, chosen)
    receiver = CorrelationReceiver(sid, SENDER, RECEIVER, pairs)
    vectors = []
    for batch, size in SIZES:
        rng = SeededRng(seed).fork(f"batch {batch}")
        pending, request = receiver.request(batch, size, rng.fork("receiver"))
        mine, reply = sender.extend(batch, size, request, rng.fork("sender"))
        theirs = receiver.accept(pending, reply)
        if any((c + d - a * x) % Q for a, c, d, x in zip(mine.a_u, mine.c_u, theirs.d_u, theirs.chi, strict=True)):
            raise AssertionError("the correlations are wrong")
        vectors.append(
            {
                "batch": batch,
                "size": size,
                "request": digest(request),
                "reply": digest(reply),
                "first_chi": f"{theirs.chi[0]:064x}",
                "sender": numbers(mine.a_u + mine.a_v + mine.c_u + mine.c_v),
                "receiver": numbers(theirs.chi + theirs.d_u + theirs.d_v),
            }
        )
    return vectors


def vectors() -> list[dict[str, Any]]:
    """Return everything that the file holds."""
    result = []
    for seed in (1, 2):
        sid = hashlib.sha256(b"vector %d" % seed).digest()
        chosen, pairs, base = base_ot(seed, sid)
        result.append({"seed": seed, "sid": sid.hex(), "base_ot": base, "batches": batches(seed, sid, chosen, pairs)})
    return result


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vectors(), indent=1) + "\n")
