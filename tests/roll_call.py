"""No test is lost without a word: what was collected is compared with what was heard of when the run ends."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

FLOOR = Path(__file__).parent / "floor.txt"
"""How many tests a whole run has at least: what is collected must not shrink unseen. Raise it with new tests."""


class RollCall:
    """Compares what was collected with what was heard of at the end; a run that lost a test fails.

    With KEYQUORUM_NO_SKIP the run is a whole one, and must have at least as many tests as `floor.txt` says.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._collected: set[str] = set()
        self._heard: set[str] = set()
        self.complaints: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collected.update(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: Iterable[str]) -> None:
        self._collected.update(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # xdist's loadgroup adds @group to the names of tests.
        self._heard.add(report.nodeid.rpartition("@")[0] if "@" in report.nodeid else report.nodeid)
        self._heard.add(report.nodeid)
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:  # at once: a run takes minutes, and its summary comes last
            terminal.ensure_newline()
            terminal.write_line(f"failed just now: {report.nodeid} ({report.when})", red=True)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._config.getoption("collectonly", default=False) or session.shouldstop or session.shouldfail:
            return
        self.complaints = complaints(self._collected, self._heard, _floor())
        if self.complaints:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        ran = len(self._collected & self._heard)
        terminalreporter.write_line(f"{len(self._collected)} tests collected, {ran} of them ran")
        for line in self.complaints:
            terminalreporter.write_line(line, red=True)


def complaints(collected: set[str], heard: set[str], floor: int) -> list[str]:
    """Return what is wrong with a run that collected, and heard of, these tests; `floor` 0: any number will do."""
    lost = sorted(collected - heard)
    found = [f"{len(lost)} tests were collected and never ran, the first: {', '.join(lost[:3])}"] if lost else []
    if len(collected) < floor:
        found.append(f"only {len(collected)} tests were collected; there are at least {floor} (tests/floor.txt)")
    return found


def _floor() -> int:
    return int(FLOOR.read_text()) if os.environ.get("KEYQUORUM_NO_SKIP") else 0
