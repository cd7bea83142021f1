"""Files that `up` writes: they say where to edit, and nothing that a person wrote into them is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyquorum.cli.generated import GeneratedFiles
from keyquorum.client import Misconfigured

NAME = "node-1/node.toml"


def start(folder: Path, known: object, text: str, said: list[str] | None = None) -> dict[str, list[str]]:
    files = GeneratedFiles(folder, known, "net/login.toml", (said if said is not None else []).append)
    files.add(NAME, text)
    marks = files.marks()
    files.write()
    return marks


def test_a_file_says_where_to_edit_and_is_written_again(tmp_path: Path) -> None:
    marks = start(tmp_path, None, "a = 1\n")
    assert "net/login.toml" in (tmp_path / NAME).read_text().splitlines()[1]
    marks = start(tmp_path, marks, "a = 2\n")
    marks = start(tmp_path, marks, "a = 3\n")
    assert (tmp_path / NAME).read_text().endswith("a = 3\n")
    assert len(marks[NAME]) == 2


def test_a_file_that_a_person_changed_stays_or_stops_the_start(tmp_path: Path) -> None:
    marks = start(tmp_path, None, "a = 1\n")
    path = tmp_path / NAME
    path.write_text(edited := path.read_text() + "[mine]\n")
    said: list[str] = []
    assert start(tmp_path, marks, "a = 1\n", said) == marks
    assert path.read_text() == edited
    assert "changed by hand" in said[0]
    with pytest.raises(Misconfigured) as caught:
        start(tmp_path, marks, "a = 2\n")
    assert caught.value.code == "edited_settings"
    assert "net/login.toml" in caught.value.hint
    assert path.read_text() == edited
    path.unlink()
    start(tmp_path, marks, "a = 2\n")
    assert path.read_text().endswith("a = 2\n")


def test_a_start_that_ended_halfway_is_not_taken_for_a_person(tmp_path: Path) -> None:
    marks = start(tmp_path, None, "a = 1\n")
    files = GeneratedFiles(tmp_path, marks, "login.toml", print)
    files.add(NAME, "a = 2\n")
    halfway = files.marks()  # remembered, and then the power failed
    start(tmp_path, halfway, "a = 3\n")
    assert (tmp_path / NAME).read_text().endswith("a = 3\n")
