"""A run as tables and as a Markdown page: what was asked and is so, scores, comparisons, and cases with pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.evaluation.scores import WORDINGS, held_against_what, interval, percent, points

COLUMNS = ("row", "right", "of", "share", "95 %", "kept-out wordings", "asked", "errors", "p50 ms")
COMPARISON_COLUMNS = (
    "row", "cases", "both right", "gained", "lost", "both wrong", "difference", "95 %", "p (McNemar)",
)  # fmt: skip
_WAYS = ("text", "image", "audio", "video")
_SPLITS = ("test", "compositional")
_ON_AVERAGE = "kept-out wordings, rows of test on average (reported; what is asked is asked of each row)"


def rows_table(rows: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """Return the lines of the table of scores."""
    return [
        (
            name,
            row["right"],
            row["count"],
            _share(row),
            interval(row),
            percent(row["wordings"]["kept_out"]["share"]) if row["wordings"]["kept_out"]["count"] else "-",
            _asked(row) or "-",
            row["errors"],
            f"{row['took_p50_s'] * 1000:.0f}",
        )
        for name, row in rows.items()
    ]


def comparison_table(rows: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """Return the lines of the table of a comparison."""
    return [
        (
            name,
            row["count"],
            row["both_right"],
            row["gained"],
            row["lost"],
            row["both_wrong"],
            points(row["difference"]),
            interval(row),
            f"{row['p']:.3g}",
        )
        for name, row in rows.items()
    ]


def left_out(comparison: Mapping[str, Any]) -> str:
    """Return which rows a comparison lacks, as a sentence; nothing where it has all."""
    names = ", ".join(comparison["left_out"])
    return f"Not compared, for want of cases that both runs were asked: {names}." if names else ""


def short_checks(result: Mapping[str, Any]) -> list[str]:
    """Return everything that is asked and is not so, as sentences."""
    return [
        f"{item['row']}: {item['what']} {_value(item)}, asked: {item['asked']}"
        for item in result["checks"]
        if not item["passed"]
    ]


def markdown(result: Mapping[str, Any]) -> str:
    """Return a run as a Markdown page."""
    rows = result["rows"]
    limited = f", at most {result['limit']} cases a row" if result.get("limit") else ""
    lines = [
        f"# {result['suite']}: {result['system']}",
        "",
        f"{result['asked_at']}, {result['took_s']:.0f} s in the last sitting, "
        f"{result['concurrency']} at a time{limited}. Versions: "
        + ", ".join(f"{slot} `{version}`" for slot, version in sorted(result["versions"].items())),
    ]
    for name, programs in result.get("skipped", {}).items():
        lines += ["", f"**{name} was left out: not installed here: {programs}.**"]
    lines += ["", *directions(result), *overview(result), "", *_verdict(result), "", "![scores](scores.svg)"]
    lines += ["", "## Rows", "", *_markdown_table(COLUMNS, rows_table(rows)), "", "By what is asked about:", ""]
    lines += _markdown_table(("row", "about", "right", "of", "share", "95 %"), _group_rows(rows))
    lines += _comparison(result.get("comparison"))
    for name, row in result.get("cases", {}).items():
        lines += _row_cases(name, rows[name], row)
    return "\n".join(lines) + "\n"


def directions(result: Mapping[str, Any]) -> list[str]:
    """Return the table of directions, what goes in by what comes out; nothing where rows have no cells."""
    cells: dict[tuple[str, str], str] = {}
    for row in result["rows"].values():
        if row.get("cell"):
            given, made = row["cell"]
            cells[given, made] = _cell(row, judged=not result.get("limit"))
    if not cells:
        return []
    lines = [(f"**{given}**", *(cells.get((given, made), "–") for made in _WAYS)) for given in _WAYS]
    table = _markdown_table(("in ↓ out →", *_WAYS), lines)
    return [*table, "", *_decided(result.get("decided"))]


def _decided(decided: Mapping[str, Any] | None) -> list[str]:
    if not decided:
        return []
    worst = min(decided["rows"].items(), key=lambda item: item[1]["share"])
    return [
        f"Makes just the media that were asked for, none where none were: {percent(decided['share'])} "
        f"({interval(decided)}) of {decided['count']}; least in {worst[0]}: {percent(worst[1]['share'])}.",
        "",
    ]


def overview(result: Mapping[str, Any]) -> list[str]:
    """Return the table that people look at first: a line a title, a column a split, as Markdown."""
    rows, against = result["rows"], result.get("baseline", {}).get("rows", {})
    splits = [split for split in _SPLITS if any(row["split"] == split for row in rows.values())]
    columns = ["", *splits, "kept-out wordings, points lower"]
    if against:
        columns.append(f"points lower than {result['baseline']['suite']}")
    marks = {(item["row"], item["what"]): _mark(item) for item in result["checks"]}
    lines = []
    for title in dict.fromkeys(_title(name, row) for name, row in rows.items()):
        mine = {row["split"]: (name, row) for name, row in rows.items() if _title(name, row) == title}
        cells = [_cell(mine[split][1], judged=not result.get("limit")) if split in mine else "–" for split in splits]
        wordings = [_lower(row["wordings"]["lower"]) + marks.get((name, WORDINGS), "") for name, row in mine.values()]
        cells.append("; ".join(wordings))
        if against:
            what = held_against_what(result["baseline"]["suite"])
            names = [name for name, _ in mine.values()]
            cells.append("; ".join(_lower(against.get(name)) + marks.get((name, what), "") for name in names))
        lines.append((title, *cells))
    if result.get("kept_out_lower"):
        empty = [""] * (len(columns) - len(splits) - 1)
        cells = [f"{_lower(result['kept_out_lower'])} points lower" if split == "test" else "–" for split in splits]
        lines.append((_ON_AVERAGE, *cells, *empty))
    return _markdown_table(columns, lines)


def _title(name: str, row: Mapping[str, Any]) -> str:
    return str(row["title"] or name)


def _cell(row: Mapping[str, Any], *, judged: bool) -> str:
    asked = _asked(row)
    met = "" if not asked or not judged else " ✓" if _is_met(row) else " ✗"
    aim = f"aim {percent(row['aim'])}" if row["aim"] is not None else ""
    wanted = ", ".join(text for text in (asked, aim) if text)
    return f"{percent(row['share'])} ({interval(row)}){met}" + (f", {wanted}" if wanted else "")


def _is_met(row: Mapping[str, Any]) -> bool:
    above = row["at_least"] is None or row["share"] >= row["at_least"]
    return above and (row["at_most"] is None or row["share"] <= row["at_most"])


def _mark(item: Mapping[str, Any]) -> str:
    """Return whether a difference is as small as is asked, and how small that is."""
    return f" {'✓' if item['passed'] else '✗'}, {item['asked'].partition(' points')[0]}"


def _lower(worse: Mapping[str, Any] | None) -> str:
    return f"{100 * worse['share']:.1f} ({interval(worse)})" if worse else "–"


def _share(row: Mapping[str, Any]) -> str:
    return percent(row["share"]) + (" of words wrong" if row["measure"] == "words_wrong" else "")


def _asked(row: Mapping[str, Any]) -> str:
    if row["at_least"] is not None:
        return f"≥ {percent(row['at_least'])}"
    return f"≤ {percent(row['at_most'])}" if row["at_most"] is not None else ""


def _value(item: Mapping[str, Any]) -> str:
    value = item["value"]
    if value is None:
        return "is not known"
    return percent(value) if item["what"] in ("share", "words wrong") else f"{points(value)} lower"


def _verdict(result: Mapping[str, Any]) -> list[str]:
    short = short_checks(result)
    if result.get("limit"):
        return [f"**Not judged: only the first {result['limit']} cases of a row were asked.**"]
    if not result["checks"]:
        return ["Nothing is asked of these scores."]
    if not short:
        return [f"All {len(result['checks'])} figures that are asked for are reached."]
    unknown = sum(item["value"] is None for item in result["checks"])
    missed = f"{len(short) - unknown} of {len(result['checks'])} figures that are asked for are missed"
    also = f", {unknown} are not known" if unknown else ""
    return [f"**{missed}{also}:**", "", *(f"- {line}" for line in short)]


def _comparison(comparison: Mapping[str, Any] | None) -> list[str]:
    if not comparison:
        return []
    lines = ["", f"## Against {comparison['with']}", ""]
    lines += _markdown_table(COMPARISON_COLUMNS, comparison_table(comparison["rows"]))
    if whole := comparison.get("all"):
        ((_, *cells),) = comparison_table({"all": whole})
        lines.append("| " + " | ".join(_escaped(cell) for cell in ("**all**", *cells)) + " |")
    if missing := left_out(comparison):
        lines += ["", missing]
    for name, row in comparison["rows"].items():
        for what in ("lost", "gained"):
            if row[f"{what}_cases"]:
                more = " …" if row[what] > len(row[f"{what}_cases"]) else ""
                lines += ["", f"{name}, {what}: " + ", ".join(f"`{id_}`" for id_ in row[f"{what}_cases"]) + more]
    return lines


def _row_cases(name: str, row: Mapping[str, Any], cases: Mapping[str, Any]) -> list[str]:
    wrong = row["count"] - row["right"]
    lines = ["", f"## {name}: {wrong} of {row['count']} wrong", ""]
    if cases.get("contact"):
        lines += [f"![{name}: the first cases, what went in and what came out]({cases['contact']})", ""]
    if cases["sheet"]:
        lines += [f"![{name}: failures first, then some that are right]({cases['sheet']})", ""]
    if cases["wrong"]:
        lines += _markdown_table(("case", "asked", "expected", "came"), cases["wrong"])
    return lines


def _group_rows(rows: Mapping[str, Any]) -> list[tuple[object, ...]]:
    return [
        (name, group, item["right"], item["count"], percent(item["share"]), interval(item))
        for name, row in rows.items()
        for group, item in row["groups"].items()
    ]


def _markdown_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    head = list(columns)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows]


def _escaped(cell: object) -> str:
    return " ".join(str(cell).split()).replace("|", "\\|")
