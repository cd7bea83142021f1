"""How keys are asked for at `PKPHelper`: the arguments of its mints, and gas limits with which they succeed.

Pure; asking a chain for an estimate would cost it two such transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def mint_gas(logins: Sequence[tuple[int, bytes, bytes, Sequence[int], bytes]]) -> int:
    """Return a gas limit with which `PKPHelper.mintForLogins(logins)` succeeds, about a tenth above what it uses.

    `logins` as the contract takes them: (type, id, user public key, scopes, label). Asking a chain for an estimate
    costs it two such transactions.
    """
    total = 100_000 + sum(500_000 + _texts_gas(login[1], login[2], login[3]) for login in logins)
    return total * 11 // 10


def mint_request(
    request_id: bytes,
    methods: Sequence[tuple[int, bytes, bytes]],
    scopes: Sequence[Sequence[int]],
    *,
    to: str | None = None,
    expected: int = 0,
) -> tuple[Any, ...]:
    """Return the argument of `PKPHelper.mintOnce`: a mint that gives one key, however often the same sender sends it.

    `request_id` is the sender's own name for the mint, 32 bytes and not zero (`ValueError`); `methods` are (type, id,
    user public key), one list of scopes each; `to` None makes the key own itself; with `expected` (a token id, see
    `PubkeyRouter.nextKey`) it mints that key or fails with `OtherKey`.
    """
    if len(request_id) != 32 or not any(request_id):
        raise ValueError("a request id has 32 bytes, not all zero")
    return (request_id, expected, to or "0x" + "00" * 20, [tuple(one) for one in methods], [list(s) for s in scopes])


def mint_once_gas(methods: Sequence[tuple[int, bytes, bytes]], scopes: Sequence[Sequence[int]]) -> int:
    """Return a gas limit with which `PKPHelper.mintOnce` succeeds, about a tenth above what it uses."""
    grants = zip(methods, scopes, strict=True)
    total = 280_000 + sum(260_000 + _texts_gas(identity, key, numbers) for (_, identity, key), numbers in grants)
    return total * 11 // 10


def _texts_gas(identity: bytes, public_key: bytes, scopes: Sequence[int]) -> int:
    """Return what the lengths of one method's parts add to the gas of granting it."""
    stored = 25_000 + 760 * len(public_key) if public_key else 0
    return stored + 4_500 * len(scopes) + 750 * max(0, len(identity) - 32)
