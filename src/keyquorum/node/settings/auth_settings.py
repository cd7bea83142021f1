"""The login methods' own sections of a node's settings: `[auth.<method>]`, in the shape that the method declares.

A method that needs settings says so with `settings_type`; a section of the file is read into it, and a section for no
method, or for one that has no settings, is refused. The web addresses in there, at any depth, say whom the node may ask
(`origins`); it asks nobody else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

Origin = tuple[str, str, int]
Settings = Mapping[str, msgspec.Struct]
NONE: Settings = MappingProxyType({})


def parse(sections: Mapping[str, Any]) -> Settings:
    """Return the settings of each method that has a section, by the method's name.

    Raises `ValueError` or `msgspec.ValidationError`, whose text starts with the section's name.
    """
    from keyquorum.auth.method import methods  # half of the methods' libraries are heavy, and most callers have none

    found: dict[str, msgspec.Struct] = {}
    for name, section in sections.items():
        method = methods().get(name)
        if method is None:
            raise ValueError(f"unknown key auth.{name}: it is no setting of [auth], and no login method")
        if method.settings_type is None:
            raise ValueError(f"auth.{name}: this login method has no settings")
        try:
            found[name] = msgspec.convert(section, method.settings_type)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(_placed(str(error), f"auth.{name}")) from None
    return MappingProxyType(found)


def origins(settings: Settings) -> frozenset[Origin]:
    """Return scheme, host and port of every web address in the settings that may be asked (`provider.origin`)."""
    from keyquorum.auth.provider import origin

    found = set()
    for text in (text for each in settings.values() for text in _texts(each)):
        with contextlib.suppress(ValueError):
            found.add(origin(text))
    return frozenset(found)


def to_toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the sections as TOML text, each with an empty line before it."""
    return "".join(
        f"\n[auth.{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    )


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # TOML's strings, numbers and booleans take JSON's forms.
    return msgspec.json.encode(value).decode()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _texts(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _texts(item)


def _placed(message: str, where: str) -> str:
    """Put the section before the path in msgspec's `what - at `$.key``."""
    what, found, path = message.partition(" - at `$")
    return f"{what} - at `$.{where}{path}" if found else f"{message} - at `$.{where}`"
