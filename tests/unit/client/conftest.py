from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anyplex import Client
from tests.fakes.gateway import FakeGateway

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 32


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway() as fake:
        yield fake


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[Client]:
    with Client(gateway.address, deadline_s=20) as made:
        yield made


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    return path
