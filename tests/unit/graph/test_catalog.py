"""Third parties add types without touching this repository; broken ones are told."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from graph import catalog
from graph.catalog import BUILT_IN, ENTRY_POINT_GROUP, ComponentType, load_catalog
from graph.errors import AlreadyExists, FailedPrecondition

POINT_CLOUD = ComponentType("encoder", "point_bert", "elsewhere:Encoder", modalities=("point_cloud",))
TWIN = ComponentType("backbone", "decoder", "elsewhere:Backbone")
NOT_A_TYPE = "a string"


def install(monkeypatch: pytest.MonkeyPatch, attribute: str) -> None:
    point = EntryPoint("theirs", f"{__name__}:{attribute}", ENTRY_POINT_GROUP)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [point] if group == ENTRY_POINT_GROUP else [])


def test_an_installed_package_adds_its_types(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "POINT_CLOUD")
    types = load_catalog()
    assert types["encoder", "point_bert"] is POINT_CLOUD
    assert len(types) == len(BUILT_IN) + 1


@pytest.mark.parametrize(
    ("attribute", "error", "words"),
    [
        ("TWIN", AlreadyExists, "two components call themselves backbone 'decoder'"),
        ("NOT_A_TYPE", FailedPrecondition, "ComponentType expected, found str"),
        ("MISSING", FailedPrecondition, "'theirs' .* cannot be loaded"),
    ],
)
def test_broken_packages_are_told(
    monkeypatch: pytest.MonkeyPatch, attribute: str, error: type[Exception], words: str
) -> None:
    install(monkeypatch, attribute)
    with pytest.raises(error, match=words):
        load_catalog()


def test_built_in_factories_have_the_right_form() -> None:
    assert all(item.factory.count(":") == 1 and item.summary for item in BUILT_IN)
