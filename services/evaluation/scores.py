"""Scores of a run: shares with intervals, by row, wording and group; what is asked of them; two runs, case by case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from services.evaluation.answers import Answered
from services.evaluation.statistics import (
    difference_95,
    mcnemar,
    median,
    paired_difference_95,
    rate_95,
)
from services.evaluation.suite import Measure, RowSpec, SuiteSpec
from services.playroom.shares import wilson_95

WORDINGS = "kept-out wordings"
DECIDES = "decides whether, and which, media to make"
_NAMED = 20


def score(answers: Iterable[Answered], measure: Measure = "right") -> dict[str, Any]:
    """Return the score of some answers; its ``share`` is of what is measured."""
    items = list(answers)
    right = sum(item.right for item in items)
    found: dict[str, Any] = {"count": len(items), "right": right}
    if measure == "words_wrong":
        words, wrong = [item.words for item in items], [item.words_wrong for item in items]
        found |= {"words": sum(words), "words_wrong": sum(wrong)}
        share = sum(wrong) / sum(words) if sum(words) else 0.0
        low, high = rate_95(wrong, words)
    else:
        share = right / len(items) if items else 0.0
        low, high = wilson_95(right, len(items))
    return found | {
        "share": round(share, 4),
        "interval_95": [round(low, 4), round(high, 4)],
        "errors": sum(bool(item.error) for item in items),
        "took_p50_s": round(median([item.took_s for item in items]), 4),
    }


def summarize(suite: SuiteSpec, answers: Mapping[str, Answered]) -> dict[str, Any]:
    """Return the scores of a suite by row; within a row by wording and by what is asked about."""
    rows: dict[str, Any] = {}
    for name, spec in suite.rows.items():
        mine = [answer for answer in answers.values() if answer.row == name]
        if mine:
            rows[name] = _summarize_row(spec, mine)
    return rows


def _summarize_row(spec: RowSpec, mine: list[Answered]) -> dict[str, Any]:
    trained = score((answer for answer in mine if not answer.kept_out), spec.measure)
    kept_out = score((answer for answer in mine if answer.kept_out), spec.measure)
    return {
        **score(mine, spec.measure),
        "title": spec.title,
        "split": spec.split,
        "measure": spec.measure,
        "at_least": spec.at_least,
        "at_most": spec.at_most,
        "aim": spec.aim,
        "cell": list(spec.cell) if spec.cell is not None else None,
        "wordings": {
            "trained": trained,
            "kept_out": kept_out,
            "lower": lower(trained, kept_out, spec.measure) if trained["count"] and kept_out["count"] else None,
        },
        "groups": {
            group: score((answer for answer in mine if answer.group == group), spec.measure)
            for group in sorted({answer.group for answer in mine})
        },
    }


def decisions(answers: Mapping[str, Answered]) -> dict[str, Any] | None:
    """Return how many answers make just the media that were asked for: in all and by row; None where none may be."""
    mine = [answer for answer in answers.values() if answer.decided is not None]
    if not mine:
        return None
    names = dict.fromkeys(answer.row for answer in mine)
    return {
        **_decided(mine),
        "rows": {name: _decided([answer for answer in mine if answer.row == name]) for name in names},
    }


def _decided(answers: list[Answered]) -> dict[str, Any]:
    right = sum(bool(answer.decided) for answer in answers)
    low, high = wilson_95(right, len(answers))
    return {
        "count": len(answers),
        "right": right,
        "share": round(right / len(answers), 4),
        "interval_95": [round(low, 4), round(high, 4)],
    }


def lower(first: Mapping[str, Any], second: Mapping[str, Any], measure: Measure) -> dict[str, Any]:
    """Return by how much the second score is worse than the first, with an interval."""
    better, worse = (first, second) if measure == "right" else (second, first)
    low, high = difference_95(
        better["share"], tuple(better["interval_95"]), worse["share"], tuple(worse["interval_95"])
    )
    return {
        "share": round(better["share"] - worse["share"], 4),
        "interval_95": [round(low, 4), round(high, 4)],
    }


def kept_out_lower(rows: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return by how much the rows of the test split are worse in kept-out wordings, on average; None without any."""
    mine = [row["wordings"]["lower"] for row in rows.values() if row["split"] == "test" and row["wordings"]["lower"]]
    if not mine:
        return None
    mean = sum(worse["share"] for worse in mine) / len(mine)
    below, above = (math.hypot(*(worse["interval_95"][end] - worse["share"] for worse in mine)) for end in (0, 1))
    return {
        "share": round(mean, 4),
        "interval_95": [round(mean - below / len(mine), 4), round(mean + above / len(mine), 4)],
    }


def held_against(suite: SuiteSpec, rows: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, Any]:
    """Return by how much rows are worse than the baseline's rows of the same names."""
    return {
        name: {"there": baseline[name]["share"], **lower(baseline[name], row, suite.rows[name].measure)}
        for name, row in rows.items()
        if name in baseline
    }


def held_against_what(suite: str) -> str:
    """Return what the checks against another suite are called."""
    return f"against {suite}"


def lacks(result: Mapping[str, Any], suite: SuiteSpec | None = None) -> str:
    """Return what the result of a run lacks of its suite; nothing where it is whole."""
    if result.get("limit"):
        return f"only the first {result['limit']} cases of a row were asked"
    if result.get("skipped"):
        return f"left out: {', '.join(result['skipped'])}"
    for name, row in suite.rows.items() if suite is not None else ():
        count = result["rows"][name]["count"] if name in result["rows"] else 0
        if count != row.count:
            return f"{name}: {count} cases, the suite has {row.count}"
    return ""


def check(
    suite: SuiteSpec,
    rows: Mapping[str, Any],
    against: Mapping[str, Any] | None = None,
    baseline_lacks: str = "",
    decided: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return everything that the suite asks of its scores, and whether it is so; of rows left out it is not known.

    Args:
        suite: What is asked.
        rows: The scores.
        against: By how much rows are worse than those of the baseline.
        baseline_lacks: Why there are no rows of the baseline.
        decided: How many answers make just the media that were asked for.
    """
    checks: list[dict[str, Any]] = []

    def add(
        row: str, what: str, value: float | None, asked: str, least: float = -math.inf, most: float = math.inf
    ) -> None:
        passed = value is not None and least <= value <= most
        checks.append({"row": row, "what": what, "value": value, "asked": asked, "passed": passed})

    for name, spec in suite.rows.items():
        row, most = rows.get(name), suite.kept_out_at_most_lower
        share = row["share"] if row else None
        if spec.at_least is not None:
            add(name, "share", share, f"≥ {percent(spec.at_least)}", least=spec.at_least)
        if spec.at_most is not None:
            add(name, "words wrong", share, f"≤ {percent(spec.at_most)}", most=spec.at_most)
        worse = row["wordings"]["lower"] if row else None
        # of what was never shown at all, wordings are reported only
        if most is not None and spec.split == "test" and (worse is not None or row is None):
            add(name, WORDINGS, worse["share"] if worse else None, f"≤ {points(most)} lower", most=most)
    if suite.decides_at_least is not None:
        share, least = decided["share"] if decided else None, suite.decides_at_least
        add(DECIDES, "share", share, f"≥ {percent(least)}", least=least)
    if suite.baseline is not None:
        most = suite.baseline.at_most_lower
        for name in suite.rows:
            what, asked = held_against_what(suite.baseline.suite), f"≤ {points(most)} lower"
            if against is not None and name in against:
                add(name, what, against[name]["share"], asked, most=most)
            else:
                why = "there is no such row to hold it against" if name in rows else "it was left out"
                add(name, what, None, f"{asked}; {baseline_lacks or why}", most=most)
    return checks


def compare(this: Mapping[str, Answered], other: Mapping[str, Answered]) -> dict[str, Any]:
    """Return how two runs differ, row by row, over the cases that both were asked."""
    pairs = _pairs(this, other)
    rows: dict[str, Any] = {}
    for name in dict.fromkeys(answer.row for answer, _ in pairs):
        mine = [(here, there) for here, there in pairs if here.row == name]
        rows[name] = _compared(mine)
    return rows


def compare_all(this: Mapping[str, Answered], other: Mapping[str, Answered]) -> dict[str, Any] | None:
    """Return how two runs differ over all cases that both were asked; None without any."""
    pairs = _pairs(this, other)
    return _compared(pairs) if pairs else None


def _pairs(this: Mapping[str, Answered], other: Mapping[str, Answered]) -> list[tuple[Answered, Answered]]:
    return [
        (answer, other[id_])
        for id_, answer in this.items()
        if id_ in other and other[id_].fingerprint == answer.fingerprint
    ]


def _compared(mine: list[tuple[Answered, Answered]]) -> dict[str, Any]:
    gained = [here.id for here, there in mine if here.right and not there.right]
    lost = [here.id for here, there in mine if there.right and not here.right]
    low, high = paired_difference_95(len(gained), len(lost), len(mine))
    return {
        "count": len(mine),
        "both_right": sum(here.right and there.right for here, there in mine),
        "gained": len(gained),
        "lost": len(lost),
        "both_wrong": sum(not here.right and not there.right for here, there in mine),
        "difference": round((len(gained) - len(lost)) / len(mine), 4),
        "interval_95": [round(low, 4), round(high, 4)],
        "p": mcnemar(len(gained), len(lost)),
        "gained_cases": gained[:_NAMED],
        "lost_cases": lost[:_NAMED],
    }


def percent(share: float) -> str:
    """Return a share for people."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """Return a difference of shares for people."""
    return f"{100 * share:.1f} points"


def interval(row: Mapping[str, Any]) -> str:
    """Return an interval for people."""
    low, high = row["interval_95"]
    return f"{100 * low:.1f} – {100 * high:.1f}"
