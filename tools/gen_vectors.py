"""Write tests/vectors/{proofs,dkg,sign}.json: whole runs from fixed seeds, every message included.

The seeded randomness is part of the vectors: SHAKE-256 of (SHA-256 of the seed's repr, 8-byte counter), one counter
step per call, scalars from 48 bytes modulo q (`algebra/rng.py`, `field.py`). Another implementation that draws in
the same order reproduces every byte; a change of any encoding, hash or order shows up as a diff.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from keyquorum.algebra.curve import generator_times
from keyquorum.algebra.field import Q, random_scalar, to_bytes
from keyquorum.algebra.rng import SeededRng
from keyquorum.algebra.transcript import Hashable
from keyquorum.protocols.correlations import Inventory
from keyquorum.protocols.dkg import confirm, generate
from keyquorum.protocols.key_share import PendingKeys
from keyquorum.protocols.proofs import prove
from keyquorum.protocols.sign import combine, sign
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import Envelope, Session, session_id
from keyquorum.rounds.simulate import Outcome, simulate

VECTORS = Path(__file__).resolve().parent.parent / "tests/vectors"
N, T, BATCH = 3, 2, 2
LINK = b"link between two"
Vector = dict[str, Any]


def _sid(purpose: str, parties: Sequence[int], parameters: Sequence[Any]) -> bytes:
    return session_id(
        chain_id=31337, contract="0x" + "ab" * 20, purpose=purpose, epoch=1, parties=parties, parameters=parameters
    )


class _Batch:
    """Columns of a dealt batch, under the names that the pool reads."""

    def __init__(self, batch: int, **columns: list[int]) -> None:
        self.batch = batch
        self.__dict__.update(columns)


def _run(
    parties: Sequence[int], sid: bytes, protocol: Callable[[Party], Coroutine[Any, Any, Any]]
) -> tuple[Outcome[Any], list[Vector]]:
    """Run all parties and return their results and every message, in the order of round, sender and recipient."""
    seen: dict[tuple[int, int, int], Vector] = {}

    def watch(envelope: Envelope, to: int) -> list[Envelope]:
        address = envelope.to or 0
        seen[envelope.round, envelope.sender, address] = {
            "round": envelope.round,
            "sender": envelope.sender,
            "to": envelope.to,
            "payload": envelope.payload.hex(),
            "echo": envelope.echo.hex(),
        }
        return [envelope]

    all_parties = [Party(j, tuple(parties), sid, SeededRng(f"vector party {j}")) for j in parties]
    sessions = {party.me: Session(party, protocol(party)) for party in all_parties}
    outcome = simulate(sessions, 0, tamper=watch)
    if outcome.errors or len(outcome.results) != len(parties):
        raise AssertionError("an honest run failed")
    return outcome, [seen[slot] for slot in sorted(seen)]


def proofs() -> Vector:
    """Proofs of knowledge for a few secrets and contexts."""
    cases = []
    contexts: list[list[Hashable]] = [[], ["text", 7], [b"bytes", 1, 2]]
    for k, context in enumerate(contexts):
        rng = SeededRng(f"vector proof {k}")
        x = random_scalar(rng)
        public = generator_times(x)
        proof = prove(rng, x, public, *context)
        cases.append(
            {
                "seed": f"vector proof {k}",
                "context": [value.hex() if isinstance(value, bytes) else value for value in context],
                "x": to_bytes(x).hex(),
                "X": public.to_bytes().hex(),
                "K": proof.K.to_bytes().hex(),
                "z": to_bytes(proof.z).hex(),
            }
        )
    return {"cases": cases}


def _generated() -> tuple[bytes, dict[int, PendingKeys], list[Vector]]:
    parties = list(range(1, N + 1))
    sid = _sid("dkg", parties, [T, BATCH])
    outcome, messages = _run(parties, sid, lambda party: generate(party, T, BATCH))
    return sid, outcome.results, messages


def dkg() -> Vector:
    """A batch of keys by three parties, and its confirmation."""
    sid, pending, messages = _generated()
    parties = sorted(pending)
    confirm_sid = _sid("dkg-confirm", parties, [sid])
    _, confirmation = _run(parties, confirm_sid, lambda party: confirm(party, pending[party.me]))
    return {
        "n": N,
        "t": T,
        "batch": BATCH,
        "sid": sid.hex(),
        "messages": messages,
        "confirm_sid": confirm_sid.hex(),
        "confirm_messages": confirmation,
        "pending": {str(j): pending[j].to_bytes().hex() for j in parties},
    }


def _dealt(signers: Sequence[int], size: int) -> tuple[dict[int, Inventory], list[Vector]]:
    """One batch per ordered pair, from a dealer: what the vectors of multiplication end with is not needed here."""
    rng = SeededRng("vector dealer")
    pools = {j: Inventory() for j in signers}
    dealt = []
    for i in signers:
        for j in (j for j in signers if j != i):
            rows = [[random_scalar(rng) for _ in range(5)] for _ in range(size)]
            a_u, a_v, c_u, c_v, chi = ([row[k] for row in rows] for k in range(5))
            d_u = [(a * x - c) % Q for a, x, c in zip(a_u, chi, c_u, strict=True)]
            d_v = [(a * x - c) % Q for a, x, c in zip(a_v, chi, c_v, strict=True)]
            columns = {"a_u": a_u, "a_v": a_v, "c_u": c_u, "c_v": c_v, "chi": chi, "d_u": d_u, "d_v": d_v}
            batch: Any = _Batch(0, **columns)
            pools[j].add_receiver(i, LINK, batch)
            pools[i].add_sender(j, LINK, batch)
            hexed = {name: [to_bytes(value).hex() for value in column] for name, column in columns.items()}
            dealt.append({"sender": i, "receiver": j, **hexed})
            if i < j:
                seed = rng.bytes(32)
                pools[i].set_zero_seed(j, seed)
                pools[j].set_zero_seed(i, seed)
                dealt[-1]["zero_seed"] = seed.hex()
    return pools, dealt


def signing() -> Vector:
    """Two digests signed by two of the three parties of `dkg`."""
    _, pending, _ = _generated()
    signers = (1, 3)
    keys = {j: pending[j].keys[0] for j in signers}
    public_key = keys[1].public_key
    digests = [SeededRng(f"vector digest {k}").bytes(32) for k in range(BATCH)]
    sid = _sid("sign", signers, [public_key.to_bytes(), digests])
    pools, dealt = _dealt(signers, BATCH)
    outcome, messages = _run(signers, sid, lambda party: sign(party, keys[party.me], digests, pools[party.me]))
    signatures = []
    for row, digest in enumerate(digests):
        shares = {j: result.rows[row] for j, result in outcome.results.items()}
        nonce = outcome.results[1].R[row]
        signatures.append(
            {
                "digest": digest.hex(),
                "R": nonce.to_bytes().hex(),
                "shares": {str(j): {"w": to_bytes(s.w).hex(), "u": to_bytes(s.u).hex()} for j, s in shares.items()},
                "signature": combine(shares, nonce, digest, public_key).to_bytes().hex(),
            }
        )
    return {
        "sid": sid.hex(),
        "signers": list(signers),
        "public_key": public_key.to_bytes().hex(),
        "keys": {str(j): keys[j].to_bytes().hex() for j in signers},
        "link": LINK.hex(),
        "correlations": dealt,
        "messages": messages,
        "signatures": signatures,
    }


GENERATORS: dict[str, Callable[[], Vector]] = {"proofs": proofs, "dkg": dkg, "sign": signing}


def text_of(name: str) -> str:
    """Return the content of tests/vectors/<name>.json."""
    return json.dumps(GENERATORS[name](), indent=1) + "\n"


if __name__ == "__main__":
    for each in GENERATORS:
        (VECTORS / f"{each}.json").write_text(text_of(each))
        sys.stdout.write(f"tests/vectors/{each}.json\n")
