"""What the tests of delays share: a key of `user`, what waits on it, and time."""

from __future__ import annotations

from typing import Any

from chains import Receipt
from eth_hash.auto import keccak
from world import WEBAUTHN, World

ZERO_ADDRESS = "0x" + "00" * 20
PASSKEY, ACCOUNT = keccak(b"credential"), keccak(b"account")
COSE = b"\xa5" * 77
DAY, WEEK, MONTH = 86_400, 604_800, 2_592_000
ADD_METHOD, ADD_SCOPE, LOWER_DELAY, TRANSFER = range(4)


def delayed_key(world: World) -> int:
    """A key of `user` with a passkey of scope 1, and a delay of a day."""
    token = world.mint()
    world.permit(token, WEBAUTHN, PASSKEY, [1], COSE)
    act(world, "setDelay", token, DAY)
    return token


def act(world: World, name: str, *arguments: Any) -> Receipt:
    return world.permissions.send(name, *arguments, account=world.user)


def pending(world: World, token: int) -> dict[int, Any]:
    return {change.changeId: change for change in world.permissions.read("getPendingChanges", token)}


def only(world: World, token: int) -> Any:
    (change,) = pending(world, token).values()
    return change


def until(world: World, moment: int) -> None:
    world.chain.advance(moment - world.chain.time())


def granted(world: World, token: int, kind: int, identity: bytes) -> tuple[bool, int]:
    found = world.authorisation(token, kind, identity)
    return found.permitted, found.scopes


def move(world: World, token: int, to: str) -> None:
    world.nft.send("transferFrom", world.user.address, to, token, account=world.user)
