from __future__ import annotations

import pytest

from graph.errors import InvalidRequest, NotFound
from services.control.gates import GateSpec
from services.control.suites import completed, scores_of
from services.evaluation.suite import load_suite, suite_files


def test_a_gate_without_a_suite_stays_as_it_is() -> None:
    gate = GateSpec(thresholds={"by hand": 1.0})
    assert completed(gate) is gate


@pytest.mark.parametrize("name", suite_files())
def test_what_a_suite_asks_by_itself_is_asked(name: str) -> None:
    suite = load_suite(name)
    if all(row.at_least is None and row.at_most is None for row in suite.rows.values()):
        with pytest.raises(InvalidRequest, match="thresholds expected"):
            completed(GateSpec(suite=name))
        return
    found = completed(GateSpec(suite=name)).thresholds
    for row, least in found.items():
        spec = suite.rows[row]
        assert least == (1.0 - spec.at_most if spec.at_most is not None else spec.at_least)
    row = next(iter(suite.rows))
    assert completed(GateSpec(suite=name, thresholds={row: 0.5})).thresholds == {row: 0.5}


def test_suites_and_rows_that_do_not_exist_are_refused() -> None:
    with pytest.raises(NotFound, match="did you mean 'understanding'"):
        completed(GateSpec(suite="understandin"))
    with pytest.raises(InvalidRequest, match="did you mean 'caption/test'"):
        completed(GateSpec(suite="understanding", thresholds={"caption/tes": 0.9}))


def test_greater_scores_are_better() -> None:
    rows = {"caption": {"measure": "right", "share": 0.9}, "transcript": {"measure": "words_wrong", "share": 0.02}}
    assert scores_of({"rows": rows}) == {"caption": 0.9, "transcript": pytest.approx(0.98)}
