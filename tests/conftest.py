"""What holds for all tests."""

from __future__ import annotations

import pytest

from tests import statuses

LAST = "test_no_status_message_tells_what_is_nobodys_business"


def pytest_configure(config: pytest.Config) -> None:
    statuses.watch()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # It reads what all the others have collected.
    items.sort(key=lambda item: item.name == LAST)
