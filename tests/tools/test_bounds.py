"""Each number that bounds what strangers, peers and servers can cost is met by a test, or excused with a reason.

A limit is a number with a name in capitals, in a package that somebody else's bytes reach. A test names one that it
imports, reads as an attribute of its module, or sets there. The list of excuses only becomes shorter: what a test names
by now, and what is not there any more, has no place in it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE, TESTS = ROOT / "src", ROOT / "tests"
REACHED = ("auth", "client", "codes", "formats", "gateway", "intents", "node", "serving")
READERS = ("chain/*.py",)
Name = tuple[str, str]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def reached() -> list[Path]:
    base = SOURCE / "keyquorum"
    globs = [*(f"{package}/**/*.py" for package in REACHED), *READERS]
    return sorted(path for glob in globs for path in base.glob(glob))


def is_number(value: ast.expr) -> bool:
    """Whether an expression is a number: a literal, a name in capitals, or arithmetic with such."""
    match value:
        case ast.Constant(value=int() | float()):
            return not isinstance(value.value, bool)
        case ast.UnaryOp(operand=operand):
            return is_number(operand)
        case ast.BinOp(left=left, right=right):
            return is_number(left) and is_number(right)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.isupper()
        case _:
            return False


def assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The names in capitals that a statement of a module gives a value."""
    match statement:
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
            pairs = list(zip(names, values, strict=True))
        case ast.Assign(targets=[name], value=value) | ast.AnnAssign(target=name, value=ast.expr() as value):
            pairs = [(name, value)]
        case _:
            pairs = []
    yield from ((name.id, value) for name, value in pairs if isinstance(name, ast.Name) and name.id.isupper())


def numbers(text: str) -> list[str]:
    """The named numbers of a module; a tuple of numbers counts as one."""

    def counts(value: ast.expr) -> bool:
        return all(map(is_number, value.elts)) if isinstance(value, ast.Tuple) else is_number(value)

    return [name for node in ast.parse(text).body for name, value in assigned(node) if counts(value)]


@cache
def sources() -> dict[str, str]:
    return {module_of(path): path.read_text() for path in reached()}


@cache
def limits() -> set[Name]:
    return {(module, name) for module, text in sources().items() for name in numbers(text)}


# By patterns and not by syntax: the tests are many, and looked at in a moment.
FROM = re.compile(r"^[ \t]*from (keyquorum[\w.]*) import (\([^)]*\)|[^\n(]*)", re.MULTILINE)
IMPORT = re.compile(r"^[ \t]*import (keyquorum[\w.]*)(?: as (\w+))?", re.MULTILINE)
READ = re.compile(r"\b([\w.]+)\.([A-Z_][A-Z0-9_]*)\b")
SET = re.compile(r"setattr\(\s*([\w.]+),\s*[\"']([A-Z_][A-Z0-9_]*)[\"']")


def imported(text: str) -> dict[str, Name]:
    """What each name in a file is that is imported from the project: (module, name)."""
    found = {alias or module: (module, "") for module, alias in IMPORT.findall(text)}
    for module, names in FROM.findall(text):
        for one in re.sub(r"#[^\n]*", "", names).strip("() \n").split(","):
            name, _, alias = one.strip().partition(" as ")
            found[alias.strip() or name] = (module, name)
    return found


@cache
def passed_on() -> dict[Name, Name]:
    """From where a module has what others import from it."""
    return {(module, alias): origin for module, text in sources().items() for alias, origin in imported(text).items()}


def origin_of(name: Name) -> Name:
    while name in passed_on() and passed_on()[name] != name:
        name = passed_on()[name]
    return name


def named(text: str) -> set[Name]:
    """The names of modules that a test imports, reads as attributes or sets: (module, name)."""
    known = imported(text)
    modules = {alias: f"{module}.{name}" if name else module for alias, (module, name) in known.items()}
    used = [(modules.get(place, place), name) for place, name in (*READ.findall(text), *SET.findall(text))]
    return {origin_of(name) for name in (*known.values(), *used) if name[0].startswith("keyquorum.")}


@cache
def met() -> set[Name]:
    """All that any test names."""
    folders = [folder for folder in TESTS.iterdir() if folder.is_dir() and folder.name not in ("js", "vectors")]
    own = [path for place in folders for path in place.rglob("*.py") if "node_modules" not in path.parts]
    texts = [path.read_text() for path in (*own, *TESTS.glob("*.py")) if path != Path(__file__)]
    assert len(texts) > 200
    return set[Name]().union(*(named(text) for text in texts if "keyquorum" in text))


# Why a number has no test of its own, and which these are, by module. Only what is no bound on others belongs here.
EXCUSED: dict[str, dict[str, str]] = {
    "a format, a protocol or a contract fixes it: with another value nothing of it works, and its tests fail": {
        "formats.strict_json": "INT64",
        "auth.code_assertion": "CHALLENGE_ID_BYTES _COMPRESSED_BYTES",
        "formats.cose": "_EXPONENT",
        "auth.email_code": "EMAIL_TYPE",
        "auth.method": "ADDRESS_TYPE",
        "auth.oidc": "OIDC_TYPE",
        "auth.passkey": "_AUTHENTICATOR_DATA_BYTES _IS_COPIED _MAY_BE_COPIED _MORE_DATA _USER_PRESENT _USER_VERIFIED",
        "auth.scopes": "TOGETHER",
        "auth.session_key": "_COORDINATE_BYTES _COORDINATE_CHARACTERS _ORDER",
        "auth.sms_code": "SMS_TYPE",
        "auth.statement": "_NONCE_BYTES",
        "auth.wallet_signature": "_WORD",
        "chain.deploy": "DEVELOPMENT_CHAIN",
        "chain.errors": "EXECUTION_FAILED REVERTED",
        "chain.guarded_call": "WORD",
        "client.checks": "DEV_CHAIN_ID",
        "client.permissions": "TOGETHER",
        "client.results": "TOKEN_HEX_DIGITS",
        "client.shares": "POINT_BYTES SCALAR_BYTES",
        "codes.secrets_file": "SEED_BYTES TAG_BYTES",
        "codes.smpp": "_LENGTH",
        "codes.smpp_pdu": "BIND_TRANSCEIVER DELIVER_SM ENQUIRE_LINK GENERIC_NACK OK PART RESPONSE SINGLE SUBMIT_SM "
        "UNBIND UNKNOWN_COMMAND _HAS_HEADER _NPI_E164 _NPI_NONE _TON_INTERNATIONAL _TON_LETTERS _TON_NETWORK _VERSION",
        "codes.smtp": "_PERMANENT_FROM _TRANSIENT_FROM",
        "intents.evm_calls": "WORD",
        "intents.intent": "PERSONAL_MESSAGE RAW_DIGEST TRANSACTION TYPED_DATA",
        "chain.block": "NUMBERS",
        "node.storage.database": "_DENIED",
        "node.keymaking.identity_secret": "REFERENCE_BYTES",
        "node.storage.share_records": "SCHEMA",
        "node.storage.vault": "KEY_BYTES",
        "serving.log_lines": "STANDARD_ERROR",
    },
    "how often this program looks by itself: more often or more seldom costs only its own time": {
        "client.checks": "POLL_SECONDS",
        "client.fanout": "BACKOFF_SECONDS PROBE_PAUSES",
        "gateway.relay": "POOL_PAUSE",
        "gateway.signups": "POOL_PAUSE",
        "node.keymaking.ceremonies": "LINK_PAUSE",
        "node.keymaking.certification": "CATCH_UP_PAUSE",
        "node.mesh.mesh": "FIRST_PAUSE LONGEST_WATCH_PAUSE",
        "node.keymaking.minting": "GENESIS_PAUSE",
        "node.services.signing": "POOL_PAUSE",
        "serving.http_server": "ACCEPT_PAUSE",
        "serving.log_lines": "RETRY_SECONDS",
    },
    "for how long this program waits for whom it asked itself: whoever waits has a bound of his own, which is tested": {
        "client.async_client": "FINALITY_SECONDS",
        "client.codes": "SECONDS",
        "client.connection": "CHAIN_SECONDS",
        "client.discord": "GATHER_SECONDS",
        "client.fanout": "HOPELESS_SECONDS LOOK_SECONDS PROBE_SECONDS",
        "client.oauth": "LOGIN_SECONDS SECONDS",
        "codes.http_sms": "GOOD_FOR_SECONDS",
        "codes.service": "CLOSING_SECONDS",
        "codes.smtp": "SECONDS",
        "node.chain.chain_quorum": "SLOW_SECONDS",
        "node.services.providers": "TIMEOUT",
        "serving.forever": "LAST_SECONDS",
        "serving.http_server": "GRACE",
        "serving.log_lines": "LAST_SECONDS",
        "serving.shell": "_GRACE",
    },
    "how much something weighs when a client chooses between nodes, or a scheduler between threads": {
        "client.choice": "FAULT_WEIGHT",
        "client.fanout": "CULPRIT_WEIGHT HEARSAY_WEIGHT",
        "client.learned": "ALONE CLEARLY",
        "client.patience": "FASTEST LONGER SOON SPARE_FOR_EACH TIMES",
        "client.runs": "FEW LOST_TOGETHER",
        "node.pairs.background": "NICENESS",
    },
    "what this program asks for when nobody says; who is asked has the bound": {
        "auth.statement": "DEFAULT_USES",
        "client.logins": "RENEW_SECONDS",
        "client.permissions": "DEADLINE_SECONDS",
        "client.session": "DEFAULT_SCOPES REQUEST_SECONDS",
        "node.keymaking.certification": "BATCH_GAS KEY_GAS",
        "node.keymaking.minting": "VOTE_GAS",
    },
    "how much is shown to people, or told of what is refused anyway": {
        "formats.strict_json": "EXPLAINED_BYTES _SHOWN _SHOWN_TOKEN",
        "auth.code_assertion": "_FINGERPRINT_CHARACTERS",
        "codes.message": "_SHOWN_KEYS",
        "codes.service": "_RANGE_DIGITS _SHOWN_TAG_BYTES",
        "intents.show": "UNLIMITED_FROM",
        "node.storage.database": "LITTLE",
    },
    "part of what a connection may send in a while, whose bound is tested as a whole": {
        "node.mesh.connection": "FRAME_OVERHEAD"
    },
}


AT_MOST = 145
"""How many are excused: make it smaller with each that goes, never larger."""


def excused() -> list[Name]:
    return [
        (f"keyquorum.{module}", name)
        for modules in EXCUSED.values()
        for module, names in modules.items()
        for name in names.split()
    ]


def test_every_number_that_bounds_others_is_met_by_a_test_or_excused() -> None:
    missing = limits() - met() - set(excused())
    assert not missing, f"no test names these: {sorted(missing)}"


def test_nothing_is_excused_that_a_test_names_or_that_is_gone() -> None:
    assert len(excused()) == len(set(excused())) <= AT_MOST
    assert set(excused()) - limits() == set(), "these are gone"
    assert set(excused()) & met() == set(), "a test names these by now"


def test_what_counts_as_a_number_and_as_named() -> None:
    text = 'A, B = 1, 2.0\nC: Final = A * 1024 - 2**3\nD = "1"\nE = f(2)\nT = (1, 2)\nx = 3\nF = True\nG = -1.5\n'
    assert numbers(text) == ["A", "B", "C", "T", "G"]
    assert numbers("def f():\n    A = 1\n") == []
    uses = """
from keyquorum.node.runs import runner
from keyquorum.node.pairs import pools as p
from keyquorum.node.mesh.wire import PART_BYTES as BYTES
import keyquorum.node.mesh.mesh
runner.EARLY_SECONDS
patch.setattr(p, "TICK", 0)
patch.setattr("keyquorum.node.storage.store.ROOM", 0)
keyquorum.node.mesh.mesh.FIRST_PAUSE
other.EARLY_PER_PEER
"""
    found = {f"{module.rpartition('.')[2]}.{name}" for module, name in named(uses)}
    assert {"runner.EARLY_SECONDS", "pools.TICK", "store.ROOM", "mesh.FIRST_PAUSE", "wire.PART_BYTES"} <= found
    assert "runner.EARLY_PER_PEER" not in found


def test_a_name_that_a_module_only_passes_on_is_the_one_it_was_made_with() -> None:
    uses = "from keyquorum.node.keymaking.minting import LARGEST_BATCH"
    assert named(uses) == {("keyquorum.node.keymaking.ceremonies", "LARGEST_BATCH")}
