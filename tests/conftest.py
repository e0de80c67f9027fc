"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests import statuses

LAST = "test_no_status_message_tells_what_is_nobodys_business"


def pytest_configure(config: pytest.Config) -> None:
    statuses.watch()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # It reads what all the others have collected.
    items.sort(key=lambda item: item.name == LAST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything has to be there, what is not installed is a failure."""
    report = yield
    if report.skipped and os.environ.get("CI") and "is not installed" in str(report.longrepr):
        report.outcome = "failed"
    return report
