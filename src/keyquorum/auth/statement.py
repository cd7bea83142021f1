"""The login statement: what a person asks for, in one value that every login method binds itself to.

    statement = (network, session key, keys, scopes, expires, nonce, block, uses)

Its hash is the challenge of every method: the SIWE nonce, the WebAuthn challenge, the OIDC nonce. A node that sees a
proof can therefore do nothing else with it: another session key, network, key, scope or expiry is another
challenge. `block`, the hash of a recent block, bounds how long before its use a statement can have been made;
whether a hash is recent is the chain's knowledge, so the caller passes a predicate. `uses` is how often the session may
sign: a stolen one is worth no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.auth.network import chain_id_of
from keyquorum.auth.scopes import Scope
from keyquorum.auth.session_key import SessionKey
from keyquorum.evm.keys import is_key_id
from keyquorum.formats.strict_json import integer, list_of, text
from keyquorum.formats.text import from_hex, read
from keyquorum.refusal import Invalid, malformed

MAX_SESSION = 24 * 3600
CLOCK_SKEW = 60
MAX_KEYS = 32
ALL_KEYS = "*"
MAX_TIME = 2**40
MAX_USES = 1_000_000
DEFAULT_USES = 1000
NETWORK = text(80)
KEYS = list_of(text(66), MAX_KEYS)
SCOPES = list_of(integer(1, max(Scope)), len(Scope))
TIME = integer(0, MAX_TIME)
USES = integer(1, MAX_USES)
_NONCE_BYTES = 16
_RULES = {
    "network": NETWORK,
    "session": dict,
    "keys": KEYS,
    "scopes": SCOPES,
    "expires": TIME,
    "nonce": text(2 * _NONCE_BYTES),
    "block": text(66),
    "uses": USES,
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One login statement of the right form; `check` says whether it may be used here and now.

    `keys` are token ids or only "*" (every key the proven methods control), `scopes` numbers in ascending order,
    `expires` Unix seconds, `nonce` 32 hex digits chosen by the client, `block` 0x and 64 hex digits, `uses` the
    number of signatures that the session may ask for.
    """

    network: str
    session: SessionKey
    keys: tuple[str, ...]
    scopes: tuple[int, ...]
    expires: int
    nonce: str
    block: str
    uses: int = DEFAULT_USES

    def __post_init__(self) -> None:
        chain_id_of(self.network)
        check_keys(self.keys)
        check_scopes(self.scopes)
        from_hex("0x" + self.nonce, _NONCE_BYTES, "the nonce (without 0x)")
        from_hex(self.block, 32, "the block hash")
        check_uses(self.uses)

    @classmethod
    def from_json(cls, value: object) -> Statement:
        """Parse the JSON object with exactly the eight members; raise `Invalid` for anything else."""
        # 1.1
        fields = read(value, _RULES, "the statement")
        fields["session"] = SessionKey.from_jwk(fields["session"])
        return cls(**fields | {name: tuple(fields[name]) for name in ("keys", "scopes")})

    def to_json(self) -> dict[str, object]:
        """Return the JSON object that `from_json` reads."""
        return {
            "network": self.network,
            "session": self.session.to_jwk(),
            "keys": list(self.keys),
            "scopes": list(self.scopes),
            "expires": self.expires,
            "nonce": self.nonce,
            "block": self.block,
            "uses": self.uses,
        }

    @property
    def challenge(self) -> str:
        """The 64 hex digits that every proof for this statement must contain (spec/auth.md, step 1.2)."""
        # 1.2
        return tagged_hash(
            Tag.LOGIN_CHALLENGE,
            self.network,
            self.session.x,
            self.session.y,
            self.keys,
            self.scopes,
            self.expires,
            bytes.fromhex(self.nonce),
            bytes.fromhex(self.block[2:]),
            self.uses,
        ).hex()

    def check(self, network: str, now: int, is_recent_block: Callable[[str], bool]) -> None:
        """Raise `Invalid` unless the statement is for `network`, in time at `now`, and names a recent block."""
        self.check_terms(network, now)
        # 1.5
        if not is_recent_block(self.block):
            raise Invalid(
                "block_not_recent",
                "the statement names a block that this node does not know as recent",
                "make a new statement with the hash of the newest block",
            )

    def check_terms(self, network: str, now: int) -> None:
        """Raise `Invalid` unless the statement is for `network` and in time at `now`: what needs no chain."""
        # 1.3
        if self.network != network:
            raise Invalid("wrong_network", f"the statement is for another network than {network}", "log in here")
        # 1.4
        if self.expires <= now:
            raise Invalid("statement_expired", "the statement's expiry has passed", "make a new statement")
        if self.expires > now + MAX_SESSION + CLOCK_SKEW:
            raise Invalid(
                "session_too_long",
                "the statement expires more than 24 hours from now",
                "ask for 24 hours at most, and compare your clock with this node's",
            )


def parse(value: object, *, network: str, now: int, is_recent_block: Callable[[str], bool]) -> Statement:
    """Parse and check a statement at once; raise `Invalid` when its form, network, times or block do not hold."""
    statement = Statement.from_json(value)
    statement.check(network, now, is_recent_block)
    return statement


def check_uses(uses: object) -> None:
    """Raise `Invalid` unless `uses` is a number of signatures from 1 to a million."""
    if type(uses) is not int or not 1 <= uses <= MAX_USES:
        raise malformed("bad_uses", f"uses must be a number from 1 to {MAX_USES}")


def check_keys(keys: tuple[str, ...]) -> None:
    """Raise `Invalid` unless `keys` is 1 to 32 different token ids, or only "*"."""
    if keys == (ALL_KEYS,):
        return
    if not 1 <= len(keys) <= MAX_KEYS or not all(map(is_key_id, keys)) or len(set(keys)) != len(keys):
        raise malformed("bad_keys", f'keys must be 1 to {MAX_KEYS} different token ids, or only "{ALL_KEYS}"')


def check_scopes(scopes: tuple[int, ...]) -> None:
    """Raise `Invalid` unless `scopes` are existing scope numbers in strictly ascending order."""
    if list(scopes) != sorted(set(scopes)) or not all(number in set(Scope) for number in scopes):
        raise malformed("bad_scopes", f"scopes must be numbers from 1 to {max(Scope)}, ascending, each once")
