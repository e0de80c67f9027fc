"""What an evaluation suite means for a gate: which scores it gives, and what it asks of them itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graph.errors import InvalidRequest
from graph.problems import did_you_mean
from services.control.gates import GateSpec
from services.evaluation.suite import RowSpec, SuiteSpec, load_suite


def completed(gate: GateSpec) -> GateSpec:
    """Check a gate against its suite; thresholds that it leaves open are the suite's own.

    Raises:
        NotFound: There is no such suite.
        InvalidRequest: A threshold is of a row that the suite does not have, or nothing is asked at all.
    """
    if not gate.suite:
        return gate
    suite = load_suite(gate.suite)
    for name in gate.thresholds:
        if name not in suite.rows:
            told = f"suite {suite.suite} has no row {name[:100]!r} ({did_you_mean(name, suite.rows)})"
            raise InvalidRequest(told, f"gate.thresholds.{name[:100]}")
    thresholds = gate.thresholds or _bars(suite)
    if not thresholds:
        raise InvalidRequest(f"suite {suite.suite} asks for nothing by itself: thresholds expected", "gate.thresholds")
    return gate.model_copy(update={"thresholds": thresholds})


def scores_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores of a suite's run by row; greater is better: shares of wrong words are turned round."""
    return {
        name: 1.0 - row["share"] if row["measure"] == "words_wrong" else float(row["share"])
        for name, row in result["rows"].items()
    }


def _bars(suite: SuiteSpec) -> dict[str, float]:
    return {name: least for name, row in suite.rows.items() if (least := _least(row)) is not None}


def _least(row: RowSpec) -> float | None:
    return row.at_least if row.at_most is None else 1.0 - row.at_most
