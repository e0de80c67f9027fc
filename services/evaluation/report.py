"""Scores of a run: shares with intervals, by row, wording and group; and two runs against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.evaluation.answers import Answered
from services.evaluation.statistics import mcnemar, median, wilson_95
from services.evaluation.suite import SuiteSpec


def score(answers: Iterable[Answered]) -> dict[str, Any]:
    """Return the score of some answers."""
    items = list(answers)
    right = sum(item.right for item in items)
    low, high = wilson_95(right, len(items))
    return {
        "count": len(items),
        "right": right,
        "share": round(right / len(items), 4) if items else 0.0,
        "interval_95": [round(low, 4), round(high, 4)],
        "errors": sum(bool(item.error) for item in items),
        "took_p50_s": round(median([item.took_s for item in items]), 4),
    }


def summarize(suite: SuiteSpec, answers: Mapping[str, Answered]) -> dict[str, Any]:
    """Return the scores of a suite by row; within a row by wording and by what is asked about."""
    rows: dict[str, Any] = {}
    for name, spec in suite.rows.items():
        mine = [answer for answer in answers.values() if answer.row == name]
        if not mine:
            continue
        rows[name] = {
            **score(mine),
            "at_least": spec.at_least,
            "wordings": {
                "trained": score(answer for answer in mine if not answer.kept_out),
                "kept_out": score(answer for answer in mine if answer.kept_out),
            },
            "groups": {
                group: score(answer for answer in mine if answer.group == group)
                for group in sorted({answer.group for answer in mine})
            },
        }
    return rows


def short_rows(rows: Mapping[str, Any]) -> list[str]:
    """Return the rows that score less than their suite asks for."""
    return [name for name, row in rows.items() if row["at_least"] is not None and row["share"] < row["at_least"]]


def compare(first: Mapping[str, Answered], second: Mapping[str, Answered]) -> dict[str, Any]:
    """Return how two runs differ, row by row, over the cases that both were asked."""
    pairs = [
        (answer, second[id_])
        for id_, answer in first.items()
        if id_ in second and second[id_].fingerprint == answer.fingerprint
    ]
    rows: dict[str, Any] = {}
    for name in dict.fromkeys(answer.row for answer, _ in pairs):
        mine = [(one.right, other.right) for one, other in pairs if one.row == name]
        only_first = sum(one and not other for one, other in mine)
        only_second = sum(other and not one for one, other in mine)
        rows[name] = {
            "count": len(mine),
            "both_right": sum(one and other for one, other in mine),
            "only_this": only_first,
            "only_other": only_second,
            "both_wrong": sum(not one and not other for one, other in mine),
            "p": mcnemar(only_first, only_second),
        }
    return rows


def rows_table(rows: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """Return the lines of the table of scores."""
    return [
        (
            name,
            row["right"],
            row["count"],
            percent(row["share"]),
            interval(row),
            percent(row["wordings"]["kept_out"]["share"]) if row["wordings"]["kept_out"]["count"] else "-",
            percent(row["at_least"]) if row["at_least"] is not None else "-",
            row["errors"],
            f"{row['took_p50_s'] * 1000:.0f}",
        )
        for name, row in rows.items()
    ]


COLUMNS = ("row", "right", "of", "share", "95 %", "kept-out wordings", "at least", "errors", "p50 ms")


def comparison_table(rows: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """Return the lines of the table of a comparison."""
    return [
        (
            name,
            row["count"],
            row["both_right"],
            row["only_this"],
            row["only_other"],
            row["both_wrong"],
            f"{row['p']:.3g}",
        )
        for name, row in rows.items()
    ]


COMPARISON_COLUMNS = ("row", "cases", "both right", "only this", "only other", "both wrong", "p (McNemar)")


def percent(share: float) -> str:
    """Return a share for people."""
    return f"{100 * share:.1f} %"


def interval(row: Mapping[str, Any]) -> str:
    """Return an interval for people."""
    low, high = row["interval_95"]
    return f"{100 * low:.1f} – {100 * high:.1f}"


def markdown(result: Mapping[str, Any]) -> str:
    """Return a run as a Markdown page."""
    lines = [
        f"# {result['suite']}: {result['system']}",
        "",
        f"{result['asked_at']}, {result['took_s']:.0f} s, {result['concurrency']} at a time. Versions: "
        + ", ".join(f"{slot} `{version}`" for slot, version in sorted(result["versions"].items())),
        "",
        *_markdown_table(COLUMNS, rows_table(result["rows"])),
        "",
        "By what is asked about:",
        "",
        *_markdown_table(("row", "about", "right", "of", "share", "95 %"), _group_rows(result["rows"])),
    ]
    if result.get("comparison"):
        lines += ["", f"Against {result['comparison']['with']}:", ""]
        lines += _markdown_table(COMPARISON_COLUMNS, comparison_table(result["comparison"]["rows"]))
    lines += ["", "![scores](scores.svg)"]
    wrong = result.get("wrong", [])
    if wrong:
        lines += ["", "Some that were wrong:", "", "![wrong](wrong.png)", ""]
        lines += _markdown_table(("case", "prompt", "expected", "answer"), wrong)
    return "\n".join(lines) + "\n"


def _group_rows(rows: Mapping[str, Any]) -> list[tuple[object, ...]]:
    return [
        (name, group, item["right"], item["count"], percent(item["share"]), interval(item))
        for name, row in rows.items()
        for group, item in row["groups"].items()
    ]


def _markdown_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    head = list(columns)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
