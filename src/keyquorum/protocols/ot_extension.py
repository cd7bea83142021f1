"""OT extension: from 128 base OTs, any number of random OTs for a few symmetric operations each.

SoftSpokenOT (ePrint 2022/192) with k = 1, its consistency check, and a tweakable hash at the end. spec/ot_extension.md

The receiver of the extension owns both seeds of every base OT, the sender one of them, chosen by a bit of Delta. Both
stretch their seeds to columns. The receiver sends U, which turns the difference of the two columns into the same
vector x of choice bits in every column, so that for each row l: sender's row = receiver's row + x_l Delta.
A receiver that uses different x in different columns learns bits of Delta from what happens next; hence the check,
which a universal hash makes cheap, and hence the rule that **the first failure destroys Delta, the seeds, and all
that came from them**: each failure that the cheat survives would be worth one bit of Delta, and all rows hang on it.

One object serves one direction of one pair. Calls from several threads wait for each other; `burn` never waits: a
computation under way still ends, but its result is withheld.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyquorum.algebra.bits import TILE, TILE_BYTES, Bits, Words, column_bits, select_masks, transpose
from keyquorum.algebra.rng import Rng
from keyquorum.algebra.scratch import scratch
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.protocols.base_ot import KAPPA, SEED_BYTES, ChosenSeeds, SeedPairs
from keyquorum.rounds.errors import Blame

Bytes = npt.NDArray[np.uint8]

MAX_BATCH_NUMBER = 2**64 - 1
MAX_ROWS = 2**20
_CHECK_BYTES = 16
_ZERO_BLOCK = bytes(16)


@dataclass(frozen=True)
class Direction:
    """Which extension this is: session, and who of the pair plays which role."""

    sid: bytes
    sender: int
    receiver: int

    def __post_init__(self) -> None:
        if self.sender == self.receiver or min(self.sender, self.receiver) < 1:
            raise ValueError("a pair is two different parties with ids from 1")


@dataclass(frozen=True)
class SenderRows:
    """The sender's side of `count` random OTs: q_l (count, 2) words, Delta (2,), and the key of the final hash."""

    q: Words = field(repr=False)
    delta: Words = field(repr=False)
    pad_key: bytes = field(repr=False)

    def erase(self) -> None:
        """Overwrite the rows and Delta with zeros."""
        self.q.fill(0)
        self.delta.fill(0)


@dataclass(frozen=True)
class ReceiverRows:
    """The receiver's side: t_l (count, 2) words, choice bits x_l (count,), and the key of the final hash."""

    t: Words = field(repr=False)
    x: Bits = field(repr=False)
    pad_key: bytes = field(repr=False)

    def erase(self) -> None:
        """Overwrite the rows and the choice bits with zeros."""
        self.t.fill(0)
        self.x.fill(0)


def tiles(count: int) -> int:
    """Return how many 128-row tiles `count` OTs take; one more is sent, which only masks the check."""
    return -(-count // TILE)


def column_bytes(count: int) -> int:
    """Return the length of one column: whole tiles and the masking tile."""
    return (tiles(count) + 1) * TILE_BYTES


def request_bytes(count: int) -> int:
    """Return the exact length of the receiver's message: U, x~, T~."""
    return KAPPA * column_bytes(count) + _CHECK_BYTES + KAPPA * _CHECK_BYTES


class _Extension:
    """What both roles share: the burn switch and batch numbers that only grow."""

    direction: Direction

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self._lock = threading.Lock()
        self._burned = False
        self._last_batch = -1

    @property
    def burned(self) -> bool:
        """Whether the object is destroyed and refuses everything."""
        return self._burned

    def burn(self) -> None:
        """Destroy the secrets; a computation that runs in another thread ends without releasing its result."""
        self._burned = True
        self._erase_if_idle()

    def _erase_if_idle(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                self._erase()
            finally:
                self._lock.release()

    def _erase(self) -> None:
        raise NotImplementedError

    @contextmanager
    def using(self) -> Iterator[None]:
        """Hold the secrets for one computation; `ValueError` when they are burned before or meanwhile."""
        try:
            with self._lock:
                self._refuse_if_burned()
                yield
        finally:
            # A burn that came while the lock was held left the erasing to its holder.
            if self._burned:
                self._erase_if_idle()
        self._refuse_if_burned()

    def _refuse_if_burned(self) -> None:
        if self._burned:
            raise ValueError("this extension is burned: set the pair up again")

    def _take_batch(self, batch: int, count: int) -> None:
        if not 0 < count <= MAX_ROWS:
            raise ValueError(f"an extension makes 1 to {MAX_ROWS} OTs")
        if not self._last_batch < batch <= MAX_BATCH_NUMBER:
            raise ValueError("batch numbers strictly increase")
        self._last_batch = batch


class ExtensionSender(_Extension):
    """The role that chose Delta in the base OTs and ends up with both pads of every OT."""

    def __init__(self, direction: Direction, seeds: ChosenSeeds) -> None:
        super().__init__(direction)
        self._seeds = seeds
        self._columns = _Columns(direction, seeds.seeds)
        self._delta = np.frombuffer(seeds.delta, np.uint64).copy()
        bits = np.unpackbits(self._delta.view(np.uint8), bitorder="little")
        self._delta_masks = select_masks(bits)[:, None]

    def _erase(self) -> None:
        self._seeds.erase()
        self._columns.erase()
        self._delta.fill(0)
        self._delta_masks.fill(0)

    def extend(self, batch: int, count: int, request: bytes) -> SenderRows:
        """Return the rows of `count` OTs; the caller holds `using()`.

        `Blame({receiver})` for a wrong length, and with burn="pair" when the check fails: everything is destroyed.
        """
        self._take_batch(batch, count)
        if len(request) != request_bytes(count):
            raise Blame({self.direction.receiver}, "OT extension request of wrong length")
        length = column_bytes(count)
        U = np.frombuffer(request, np.uint64, KAPPA * length // 8).reshape(KAPPA, length // 8)
        x_tilde = np.frombuffer(request, np.uint64, 2, U.nbytes)
        T_tilde = np.frombuffer(request, np.uint64, 2 * KAPPA, U.nbytes + _CHECK_BYTES).reshape(KAPPA, 2)
        # 2.1
        Q = U & self._delta_masks
        Q ^= self._columns.stretch(batch, length)
        # 2.2
        transcript = _transcript(self.direction, batch, count, U)
        # 2.3
        expected = T_tilde ^ (self._delta_masks & x_tilde)
        if not hmac.compare_digest(_hash_columns(transcript, Q), expected.tobytes()):
            self._burned = True
            raise Blame({self.direction.receiver}, "OT extension check", burn="pair")
        # 2.4
        rows = transpose(np.ascontiguousarray(Q[:, :-2]))[:count]
        return SenderRows(rows, self._delta.copy(), _pad_key(transcript, request, U.nbytes))


class ExtensionReceiver(_Extension):
    """The role that owns both seeds of every base OT and ends up with choice bits and one pad of every OT."""

    def __init__(self, direction: Direction, seeds: SeedPairs) -> None:
        super().__init__(direction)
        self._seeds = seeds
        self._zeros = _Columns(direction, seeds.zeros)
        self._ones = _Columns(direction, seeds.ones)

    def _erase(self) -> None:
        self._seeds.erase()
        self._zeros.erase()
        self._ones.erase()

    def request(self, batch: int, count: int, rng: Rng) -> tuple[ReceiverRows, bytes]:
        """Return the rows and choice bits of `count` OTs, and the message to the sender; the caller holds `using()`."""
        self._take_batch(batch, count)
        length = column_bytes(count)
        # 1.1
        x = np.frombuffer(rng.bytes(length), np.uint64)
        # 1.2
        T0 = self._zeros.stretch(batch, length)
        U = self._ones.stretch(batch, length)
        U ^= T0
        U ^= x
        # 1.3
        transcript = _transcript(self.direction, batch, count, U)
        x_tilde = _hash_linear(transcript, x)
        T_tilde = _hash_columns(transcript, T0)
        # 1.4
        request = b"".join((U.data, x_tilde, T_tilde))
        # 1.5
        rows = transpose(np.ascontiguousarray(T0[:, :-2]))[:count]
        choices = column_bits(x[:-2])[:count]
        return ReceiverRows(rows, choices, _pad_key(transcript, request, U.nbytes)), request


class _Columns:
    """128 AES-128 counter-mode generators, one per base OT; the batch number is the upper half of the counter."""

    def __init__(self, direction: Direction, seeds: Bytes) -> None:
        if seeds.shape != (KAPPA, SEED_BYTES):
            raise ValueError("an extension starts from 128 seeds of 16 bytes")
        d = direction
        keys = [
            tagged_hash(Tag.EXTENSION_SEED, d.sid, d.sender, d.receiver, i, seeds[i].tobytes())[:16]
            for i in range(KAPPA)
        ]
        self._streams = [Cipher(algorithms.AES128(key), modes.CTR(_ZERO_BLOCK)).encryptor() for key in keys]

    def stretch(self, batch: int, length: int) -> Words:
        """Return (128, length / 8) words, a function of the seeds and the batch number."""
        start = batch.to_bytes(8, "big") + bytes(8)
        zeros = bytes(length)
        columns = []
        for stream in self._streams:
            stream.reset_nonce(start)
            columns.append(stream.update(zeros))
        return np.frombuffer(bytearray(b"".join(columns)), np.uint64).reshape(KAPPA, length // 8)

    def erase(self) -> None:
        # OpenSSL overwrites the key of a freed context.
        self._streams.clear()


def _transcript(direction: Direction, batch: int, count: int, U: Words) -> bytes:
    d = direction
    return tagged_hash(Tag.EXTENSION_CHECK, d.sid, d.sender, d.receiver, batch, count, U.data)


def _pad_key(transcript: bytes, request: bytes, check_from: int) -> bytes:
    return tagged_hash(Tag.EXTENSION_PADS, transcript, memoryview(request)[check_from:])


def _hash_columns(transcript: bytes, columns: Words) -> bytes:
    """Return 16 bytes per column: GHASH, keyed by the transcript, plus a constant that cancels in the check.

    GHASH comes as the tag of AES-GCM over no plaintext; there is no secret in the key and nothing is encrypted,
    so the fixed nonce is not a reuse.
    """
    gcm = AESGCM(transcript[:16])
    return b"".join([gcm.encrypt(bytes(12), b"", column) for column in columns.view(np.uint8)])


def _hash_linear(transcript: bytes, column: Words) -> bytes:
    both = np.frombuffer(_hash_columns(transcript, np.stack((column, np.zeros_like(column)))), np.uint64)
    return (both[:2] ^ both[2:]).tobytes()


class PadHash:
    """H'(l, row): TMMO (ePrint 2019/074) on AES-128 with the batch's key, six blocks to the row.

    For block b of row l of correlation m, with pi = AES under the key and the tweak (8 l + b, m) of two words:
    pi(pi(row) + tweak) + pi(row). Six blocks are three numbers of 256 bits.
    """

    BLOCKS = 6

    def __init__(self, pad_key: bytes) -> None:
        self._aes: CipherContext = Cipher(algorithms.AES128(pad_key[:16]), modes.ECB()).encryptor()  # noqa: S305

    def expand(self, rows: Words, first: int) -> Words:
        """Return (sides, batch, positions, 12) words of rows (sides, batch, positions, 2); `first` is the first m.

        The result is scratch memory, valid until the next call.
        """
        sides, batch, positions, _ = rows.shape
        blocks = (sides, batch, positions, self.BLOCKS, 2)
        tweaks = scratch("PadHash.tweaks", blocks[1:], np.uint64)
        tweaks[..., 0] = _first_tweak_words(positions)
        tweaks[..., 1] = np.arange(first, first + batch, dtype=np.uint64)[:, None, None]
        # 3.1
        inner = self._permute("inner", rows)
        repeated = scratch("PadHash.repeated", blocks, np.uint64)
        # One 16-byte block is copied as one complex number: numpy has no wider integers.
        np.copyto(repeated.view(np.complex128)[..., 0], inner.view(np.complex128))
        tweaked = scratch("PadHash.tweaked", blocks, np.uint64)
        np.bitwise_xor(repeated, tweaks, out=tweaked)
        pads = self._permute("pads", tweaked)
        pads ^= repeated
        return pads.reshape(sides, batch, positions, 2 * self.BLOCKS)

    def _permute(self, name: str, blocks: Words) -> Words:
        # The cipher wants room for one block more than it writes.
        room = scratch(f"PadHash.{name}", (blocks.nbytes + 16,), np.uint8)
        self._aes.update_into(blocks.reshape(-1).view(np.uint8).data, room.data)
        return room[: blocks.nbytes].view(np.uint64).reshape(blocks.shape)


@cache
def _first_tweak_words(positions: int) -> Words:
    words: Words = np.arange(positions, dtype=np.uint64)[:, None] << np.uint64(3)
    words = words | np.arange(PadHash.BLOCKS, dtype=np.uint64)
    words.flags.writeable = False
    return words
