"""Pictures of a run: its scores with their intervals, and some of the cases that were wrong."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any

from anyplex import Medium
from services.evaluation.answers import Answered
from services.evaluation.suite import EvaluationCase

_LABEL_PX, _BAR_PX, _ROW_PX, _NUMBER_PX = 240, 420, 30, 170
_TILE_PX, _LINE_PX, _TEXT_PX, _COLUMNS = 128, 13, 9 * 13, 4


def scores_svg(title: str, rows: Mapping[str, Any]) -> str:
    """Return a bar for every row, its 95 % interval as a line, what the suite asks for as a mark."""
    width, height = _LABEL_PX + _BAR_PX + _NUMBER_PX, _ROW_PX * len(rows) + 50
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
        ' font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for index, (name, row) in enumerate(rows.items()):
        lines += _bar(name, row, 38 + index * _ROW_PX)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _bar(name: str, row: Mapping[str, Any], top: int) -> list[str]:
    low, high = row["interval_95"]
    middle = top + _ROW_PX // 2

    def x(share: float) -> str:
        return f"{_LABEL_PX + _BAR_PX * share:.1f}"

    lines = [
        f'<text x="10" y="{middle + 4}">{escape(name)}</text>',
        f'<rect x="{_LABEL_PX}" y="{top + 5}" width="{_BAR_PX}" height="{_ROW_PX - 10}" fill="#eeeeee"/>',
        f'<rect x="{_LABEL_PX}" y="{top + 5}" width="{_BAR_PX * row["share"]:.1f}" height="{_ROW_PX - 10}"'
        ' fill="#4477aa"/>',
        f'<line x1="{x(low)}" x2="{x(high)}" y1="{middle}" y2="{middle}" stroke="black" stroke-width="2"/>',
        f'<text x="{_LABEL_PX + _BAR_PX + 10}" y="{middle + 4}">{100 * row["share"]:.1f} %  '
        f"({row['right']} of {row['count']})</text>",
    ]
    if row["at_least"] is not None:
        mark = x(row["at_least"])
        lines.append(f'<line x1="{mark}" x2="{mark}" y1="{top}" y2="{top + _ROW_PX}" stroke="#cc3311"/>')
    return lines


def wrong_sheet(cases: Sequence[EvaluationCase], answers: Mapping[str, Answered]) -> bytes | None:
    """Return a PNG of the first wrong cases: picture, prompt, what was expected, what came; None without any."""
    from PIL import Image, ImageDraw

    wrong = [case for case in cases if not answers[case.id].right][:12]
    if not wrong:
        return None
    cell_px = (_TILE_PX * 2, _TILE_PX + _TEXT_PX)
    rows = (len(wrong) + _COLUMNS - 1) // _COLUMNS
    sheet = Image.new("RGB", (cell_px[0] * min(len(wrong), _COLUMNS), cell_px[1] * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for index, case in enumerate(wrong):
        left, top = index % _COLUMNS * cell_px[0], index // _COLUMNS * cell_px[1]
        shown = next((part for part in case.parts if isinstance(part, Medium)), None)
        if shown is not None and shown.modality == "image":
            picture = Image.open(io.BytesIO(shown.read())).convert("RGB").resize((_TILE_PX, _TILE_PX))
            sheet.paste(picture, (left + _TILE_PX // 2, top))
        said = answers[case.id].answer or answers[case.id].error
        texts = (case.prompt, f"expected: {case.expected}", f"came: {said}")
        lines = [line for text in texts for line in wrap(text.encode("ascii", "replace").decode(), 44)[:3]]
        for number, line in enumerate(lines):
            draw.text((left + 4, top + _TILE_PX + 2 + _LINE_PX * number), line, fill="black")
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
