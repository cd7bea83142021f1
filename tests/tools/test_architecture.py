"""The map is the house: its tables name the folders that there are, and its picture what `check_imports` allows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from check_imports import HOUSE, ROOMS
from draw_house import COLUMNS, PICTURE, arrows, draw, floors, packages

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/architecture.md"


def rows(title: str) -> list[str]:
    (section,) = re.findall(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"^\| `([a-z]+)` \|", section, re.MULTILINE)


def folders(base: Path) -> set[str]:
    return {path.parent.name for path in base.glob("*/__init__.py")}


def test_the_page_names_every_package_from_below() -> None:
    named = rows("Packages")
    assert set(named) == set(HOUSE) == folders(ROOT / "src/keyquorum") - {"web"}
    assert [floors(packages())[name] for name in named] == sorted(floors(packages()).values())


@pytest.mark.parametrize("package", ROOMS)
def test_the_page_names_every_room_of_a_package(package: str) -> None:
    assert rows(f"Rooms of `{package}/`") == list(ROOMS[package])
    assert set(ROOMS[package]) == folders(ROOT / "src/keyquorum" / package)


def test_every_file_that_the_page_names_is_there() -> None:
    named = re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", PAGE.read_text())
    assert len(named) > 8
    assert [name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "src/keyquorum"))] == []


def test_the_picture_is_what_the_check_allows() -> None:
    assert (ROOT / PICTURE).read_text() == draw(), "run tools/draw_house.py"
    assert set(COLUMNS) == set(HOUSE)
    assert ("node", "protocols") in arrows(packages()), "nothing else leads there"
    assert ("node", "rounds") not in arrows(packages()), "the protocols lead there"
