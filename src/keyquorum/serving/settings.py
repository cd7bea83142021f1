"""Settings of a server: one TOML file, read strictly, and errors that name the file, the key and what is wrong with it.

A setting that nobody knows is refused rather than ignored, because a misspelt limit is a limit that does not hold.
Values are never quoted.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec


class ConfigError(ValueError):
    """The file is missing, is not TOML, or a setting in it is unknown, missing or out of range."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file."""


def read(path: Path) -> dict[str, Any]:
    """Return what is in the file; raise `ConfigError` when it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {_reason(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


@contextmanager
def checking(path: Path) -> Iterator[None]:
    """Inside, whatever is wrong with the settings of `path` becomes a `ConfigError` that says so."""
    try:
        yield
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error))}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _explain(message: str) -> str:
    """Turn msgspec's `what - at `$.section.key`` into `section.key: what`."""
    found = re.search(r"^(.*?)(?: - at `\$\.?(.*)`)?$", message, re.DOTALL)
    what, where = (found[1], found[2] or "") if found else (message, "")
    unknown = re.search(r"contains unknown field `(.*)`", what)
    if unknown:
        return f"unknown key {'.'.join(filter(None, [where, unknown[1]]))}"
    missing = re.search(r"missing required field `(.*)`", what)
    if missing:
        return f"missing key {'.'.join(filter(None, [where, missing[1]]))}"
    return f"{where}: {what}" if where else what


def _reason(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "not UTF-8 text"
