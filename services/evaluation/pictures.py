"""Pictures of a run: its scores with their intervals, and some of the cases that were wrong."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from anyplex import AnyplexError, Medium
from services.evaluation.answers import Answered
from services.evaluation.suite import EvaluationCase
from services.evaluation.thumbnails import SIDE_PX, thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_LABEL_PX, _BAR_PX, _ROW_PX, _NUMBER_PX = 240, 420, 30, 230
_TILE_PX, _LINE_PX, _TEXT_PX, _COLUMNS, _LINE_LETTERS = 396, 13, 12 * 13, 3, 62
_SHOWN_WRONG, _SHOWN_RIGHT = 9, 3
_CONTACTS = 6
_ARROW_PX = 22
_SOUND_ENDINGS = (".wav", ".mp3", ".flac", ".ogg")
_FILM_ENDINGS = (".mp4", ".webm", ".gif")
_SHEET_COLORS = 256
_INK = {True: "#228833", False: "#cc3311"}


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
        f'<text x="{_LABEL_PX + _BAR_PX + 10}" y="{middle + 4}">{100 * row["share"]:.1f} %  ({_counts(row)})</text>',
    ]
    bar = row["at_least"] if row["at_least"] is not None else row["at_most"]
    if bar is not None:
        mark = x(bar)
        lines.append(f'<line x1="{mark}" x2="{mark}" y1="{top}" y2="{top + _ROW_PX}" stroke="#cc3311"/>')
    return lines


def _counts(row: Mapping[str, Any]) -> str:
    """Return what a share is of."""
    if row["measure"] == "words_wrong":
        return f"{row['words_wrong']} of {row['words']} words wrong"
    return f"{row['right']} of {row['count']}"


def sheet(cases: Sequence[EvaluationCase], answers: Mapping[str, Answered], folder: Path) -> bytes | None:
    """Return a PNG of some cases, wrong ones first: what went in, what was expected, what came; None without any.

    Args:
        cases: Of one row.
        answers: By id.
        folder: Where what was made lies.
    """
    wrong = [case for case in cases if not answers[case.id].right][:_SHOWN_WRONG]
    return _drawn(wrong + [case for case in cases if answers[case.id].right][:_SHOWN_RIGHT], answers, folder)


def contact_sheet(cases: Sequence[EvaluationCase], answers: Mapping[str, Answered], folder: Path) -> bytes | None:
    """Return a PNG of the first cases, right or wrong: what went in and what came out; None without any."""
    return _drawn(cases[:_CONTACTS], answers, folder)


def _drawn(shown: Sequence[EvaluationCase], answers: Mapping[str, Answered], folder: Path) -> bytes | None:
    from PIL import Image, ImageDraw

    if not shown:
        return None
    cell_px = (_TILE_PX, SIDE_PX + _TEXT_PX)
    rows = (len(shown) + _COLUMNS - 1) // _COLUMNS
    canvas = Image.new("RGB", (cell_px[0] * min(len(shown), _COLUMNS), cell_px[1] * rows), "white")
    draw = ImageDraw.Draw(canvas)
    for index, case in enumerate(shown):
        left, top = index % _COLUMNS * cell_px[0], index // _COLUMNS * cell_px[1]
        answer = answers[case.id]
        canvas.paste(_media_strip(case, [folder / name for name in answer.media]), (left + 4, top))
        draw.text(
            (left + 4, top + SIDE_PX + 2), f"{'right' if answer.right else 'WRONG'}  {case.id}", fill=_INK[answer.right]
        )
        for number, line in enumerate(_lines(case, answer), start=1):
            draw.text((left + 4, top + SIDE_PX + 2 + _LINE_PX * number), line, fill="black")
    buffer = io.BytesIO()
    # median cut, the default, leaves no color to what is small, and readers would see a pink square as beige
    canvas.quantize(_SHEET_COLORS, method=Image.Quantize.MAXCOVERAGE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _media_strip(case: EvaluationCase, made: Sequence[Path]) -> Picture:
    """Return the media of a case side by side, in the order in which they are handed in; then what was made."""
    from PIL import Image

    pictures = [thumbnail(part) for _, parts in case.turns for part in parts if isinstance(part, Medium)]
    if made:
        pictures += [_arrow(), *(_thumbnail_of_file(path) for path in made)]
    strip = Image.new("RGB", (max(1, sum(picture.width + 4 for picture in pictures)), SIDE_PX), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + 4
    if strip.width > _TILE_PX - 8:
        strip = strip.resize((_TILE_PX - 8, SIDE_PX * (_TILE_PX - 8) // strip.width))
    return strip


def _arrow() -> Picture:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (_ARROW_PX, SIDE_PX), "white")
    draw, middle = ImageDraw.Draw(picture), SIDE_PX // 2
    draw.line((2, middle, _ARROW_PX - 8, middle), fill="black", width=3)
    draw.polygon([(_ARROW_PX - 10, middle - 6), (_ARROW_PX - 10, middle + 6), (_ARROW_PX - 2, middle)], fill="black")
    return picture


def _thumbnail_of_file(path: Path) -> Picture:
    """Return a picture of what was made; a gray one where it cannot be read."""
    from PIL import Image

    try:
        return thumbnail(Medium(path, modality=modality_of(path)))
    except (AnyplexError, OSError, ValueError, SyntaxError):
        return Image.new("RGB", (SIDE_PX, SIDE_PX), "gray")


def modality_of(path: Path) -> str:
    """Return the modality of a file of what was made, as its ending tells; GIFs are films here."""
    if path.suffix in _SOUND_ENDINGS:
        return "audio"
    return "video" if path.suffix in _FILM_ENDINGS else "image"


def _lines(case: EvaluationCase, answer: Answered) -> list[str]:
    """Return the words of a case: its turns, what was expected and what came."""
    texts = []
    for role, parts in case.turns[:-1]:
        words = " ".join(part for part in parts if isinstance(part, str))
        texts.append(f"{'<' if role == 'assistant' else '>'} {words}")
    texts += [f"> {case.prompt}", f"expected: {case.expected}", f"came: {answer.answer or answer.error}"]
    if answer.media and not answer.right:
        texts.append(f"wrong: {answer.reason}")
    # the font that comes with Pillow has no other letters
    return [line for text in texts for line in wrap(text.encode("ascii", "replace").decode(), _LINE_LETTERS)[:3]]
