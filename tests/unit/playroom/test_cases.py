from __future__ import annotations

from services.playroom.captions import caption_of
from services.playroom.cases import picture_cases
from services.playroom.scenes import Split


def test_cases_repeat_by_seed_and_judge_their_own_answer_right() -> None:
    cases = picture_cases(Split.TEST, "question", 30, seed=3)
    assert cases == picture_cases(Split.TEST, "question", 30, seed=3)
    assert all(case.judge(case.expected).right for case in cases)
    assert {case.mime_type for case in cases} == {"image/png", "image/jpeg"}
    assert {case.kept_out for case in cases} == {True, False}
    assert all(case.open().size == (64, 64) for case in cases)


def test_caption_cases_want_every_attribute() -> None:
    for case in picture_cases(Split.TEST, "caption", 20, seed=1):
        assert case.judge(caption_of(case.scene)).right
        wrong = case.expected.replace("small", "huge").replace("large", "small").replace("huge", "large")
        verdict = case.judge(wrong)
        assert not verdict.right
        assert "missing" in verdict.reason
        assert not case.judge("a cat").right


def test_one_kind_can_be_asked_for() -> None:
    assert {case.kind for case in picture_cases(Split.TEST, "compare", 5)} == {"compare"}


def test_compositional_cases_show_held_out_pairs() -> None:
    assert all(case.scene.names_held_out_pair for case in picture_cases(Split.COMPOSITIONAL, "caption", 20))
