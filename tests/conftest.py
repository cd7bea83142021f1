"""What every test shares: the long sweeps stay out unless they are asked for, and no test is lost without a word."""

from __future__ import annotations

import os

import pytest
import structlog

from roll_call import RollCall


@pytest.fixture(autouse=True)
def nodes_inside_tests_log_nowhere() -> None:
    """Keep what lives longer than a test from writing to that test's output, which is closed by then."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # in the process that counts for all workers
        config.pluginmanager.register(RollCall(config), "roll-call")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    soak = [item for item in items if item.get_closest_marker("soak")]
    if endless := sorted({item.nodeid for item in soak if item.get_closest_marker("timeout") is None}):
        # What is meant to run for hours never ends well under the limit that is meant for the others.
        raise pytest.UsageError(f"a soak test has a time limit of its own, these have none: {endless}")
    if "soak" in config.getoption("-m", default=""):
        return
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in soak]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Where everything is installed (continuous integration), a skipped test is a failed one."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("KEYQUORUM_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be missing: {report.longrepr}"
    return report
