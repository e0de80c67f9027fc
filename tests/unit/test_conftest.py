"""What holds for all tests."""

from __future__ import annotations

import pytest

from tests.conftest import pytest_runtest_makereport


def outcome_of_skipping(reason: str) -> str:
    report = pytest.TestReport("t", ("t.py", 1, "t"), {}, "skipped", ("t.py", 1, f"Skipped: {reason}"), "setup")
    hook = pytest_runtest_makereport()
    next(hook)
    with pytest.raises(StopIteration) as ended:
        hook.send(report)
    result: pytest.TestReport = ended.value.value
    return result.outcome


@pytest.mark.parametrize(
    ("reason", "in_ci"), [("sox is not installed", "failed"), ("no other version is known", "skipped")]
)
def test_a_missing_program_is_a_failure_in_ci_alone(monkeypatch: pytest.MonkeyPatch, reason: str, in_ci: str) -> None:
    monkeypatch.setenv("CI", "true")
    assert outcome_of_skipping(reason) == in_ci
    monkeypatch.delenv("CI")
    assert outcome_of_skipping(reason) == "skipped"
