"""Errors survive pickling whole, and keep what they carry when they are placed."""

from __future__ import annotations

import pickle

import pytest

from graph.errors import ERRORS, AnyplexError, InvalidRequest, SpecError, Violation


@pytest.mark.parametrize("cls", ERRORS.values())
def test_every_error_survives_pickling(cls: type[AnyplexError]) -> None:
    error = pickle.loads(pickle.dumps(cls("went wrong", "node see", 1.5)))  # noqa: S301 - our own bytes
    assert type(error) is cls
    assert (str(error), error.retry_after_s) == ("node see: went wrong", 1.5)


def test_what_they_carry_survives_too() -> None:
    invalid = InvalidRequest("a", "", 0.0, [Violation("f", "d")]).at("here")
    spec = SpecError("a", problems=["one", "two"]).at("here")
    for error in (invalid, spec):
        assert error.at("elsewhere") is error
    assert pickle.loads(pickle.dumps(invalid)).violations == (Violation("f", "d"),)  # noqa: S301
    assert pickle.loads(pickle.dumps(spec)).problems == ("one", "two")  # noqa: S301
