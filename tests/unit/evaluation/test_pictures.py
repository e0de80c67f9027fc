"""Sheets of cases show what was asked in its own colors."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from anyplex import Medium
from services.evaluation.answers import Answered
from services.evaluation.pictures import sheet
from services.evaluation.sources import draw_cases
from services.evaluation.suite import load_suite
from services.evaluation.thumbnails import thumbnail


def test_a_pink_tile_stays_pink(tmp_path: Path) -> None:
    cases = list(draw_cases("caption/test", load_suite("understanding").rows["caption/test"], 60))
    cases = sorted(cases, key=lambda case: "pink" not in case.expected)[:1] + cases[:11]
    assert "pink" in cases[0].expected
    answers = {case.id: Answered(case.id, "r", "g", False, "", "", "", "", False) for case in cases}
    drawn = sheet(cases, answers, tmp_path)
    assert drawn is not None
    (picture,) = (part for part in cases[0].parts if isinstance(part, Medium))
    asked = np.asarray(thumbnail(picture)).astype(int)
    shown = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)[:128, 4 : 4 + 128]
    assert np.abs(shown - asked).max() <= 24
