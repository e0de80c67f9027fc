"""Cards of neighbours that do not fit are told with both sides' fields."""

from __future__ import annotations

import dataclasses

import pytest

from graph.cards import CardInfo, ConditioningInfo, check_cards
from tests.unit.graph.worlds import compiled

PLAN = compiled()
CARDS = {
    "see": CardInfo("encoder", "clip_vision", ("image", "video"), output_width=192, tokens_per_item=36),
    "hear": CardInfo("encoder", "whisper", ("audio",), output_width=128),
    "see_in": CardInfo("input_projector", "linear", input_width=192, output_width=256, tokens_per_item=9),
    "watch_in": CardInfo("input_projector", "linear", input_width=192, output_width=256, tokens_per_item=9),
    "hear_in": CardInfo("input_projector", "linear", input_width=128, output_width=256),
    "think": CardInfo(
        "backbone", "decoder", input_width=256, output_width=256, context_tokens=2048, signals={"image": 4, "audio": 8}
    ),
    "draw_out": CardInfo("output_projector", "transformer", input_width=256, output_width=768, signals={"image": 4}),
    "draw": CardInfo("generator", "diffusion", ("image",), input_width=768),
    "play_out": CardInfo("output_projector", "transformer", input_width=256, output_width=512, signals={"audio": 8}),
    "play": CardInfo("generator", "tones", ("audio",), input_width=512),
}


def told(**changed: dict[str, object]) -> list[str]:
    cards = {}
    for name, card in CARDS.items():
        cards[PLAN.node(name).component] = dataclasses.replace(card, **changed.get(name, {}))  # type: ignore[arg-type]
    return [problem.message for problem in check_cards(PLAN, cards)]


def test_cards_that_fit_are_silent() -> None:
    assert told() == []


@pytest.mark.parametrize(
    ("node", "change", "words"),
    [
        ("see", {"output_width": 200}, "see.output_width 200 does not fit see_in.input_width 192"),
        ("see", {"modalities": ("image",)}, "node 'watch': modality video, its component has image"),
        ("see", {"type": "other"}, "node 'see': encoder 'other' answers, encoder 'clip_vision' expected"),
        ("see_in", {"cross_memory": True}, "see_in.cross_memory yes does not fit think.cross_memory no"),
        ("see_in", {"tokens_per_item": 4096}, "see_in.tokens_per_item 4096 does not fit think.context_tokens 2048"),
        ("hear_in", {"output_width": 8}, "hear_in.output_width 8 does not fit think.input_width 256"),
        ("hear_in", {"modalities": ("image",)}, "hear.modality audio does not fit hear_in.modalities image"),
        ("see", {"max_frames": 4}, "node 'watch': 8 frames, its component takes 4 of a video"),
        ("watch_in", {"max_frames": 4}, "watch.frames 8 does not fit watch_in.max_frames 4"),
        ("think", {"signals": {"image": 4}}, "node 'think': signals.audio 8 is stated, its component has 0"),
        ("draw_out", {"signals": {"image": 8}}, "think.signals.image 4 does not fit draw_out.signals.image 8"),
        ("draw_out", {"signals": {"video": 4}}, "node 'draw_out': signal image, its component reads video"),
        ("draw_out", {"adds_input_embeddings": True}, "think.adds_input_embeddings no does not fit draw_out.adds"),
        ("draw", {"input_width": 1024}, "draw_out.output_width 768 does not fit draw.input_width 1024"),
    ],
)
def test_what_does_not_fit_is_told(node: str, change: dict[str, object], words: str) -> None:
    problems = told(**{node: change})
    assert any(words in problem for problem in problems), problems


SEQUENCE, VECTOR = ConditioningInfo((77, 768)), ConditioningInfo((768,))


@pytest.mark.parametrize(
    ("gives", "reads", "words"),
    [
        ({"prompt_embeds": SEQUENCE}, {"prompt_embeds": ConditioningInfo((0, 768))}, ""),
        ({"image_embeds": VECTOR}, {"image_embeds": VECTOR, "prompt_embeds": ConditioningInfo((0, 8), True)}, ""),
        ({"prompt_embeds": SEQUENCE}, {}, ""),
        ({}, {"prompt_embeds": SEQUENCE}, ""),
        (
            {"image_embeds": VECTOR},
            {"prompt_embeds": SEQUENCE},
            "node 'draw': reads prompt_embeds, its projectors give image_embeds",
        ),
        (
            {"image_embeds": VECTOR, "prompt_embeds": SEQUENCE},
            {"prompt_embeds": SEQUENCE},
            "node 'draw_out': gives image_embeds, draw reads prompt_embeds",
        ),
        (
            {"prompt_embeds": VECTOR},
            {"prompt_embeds": ConditioningInfo((0, 768))},
            "draw_out.prompt_embeds [768] does not fit draw.prompt_embeds [0, 768]",
        ),
        (
            {"prompt_embeds": SEQUENCE},
            {"prompt_embeds": ConditioningInfo((0, 1024))},
            "draw_out.prompt_embeds [77, 768] does not fit draw.prompt_embeds [0, 1024]",
        ),
    ],
)
def test_generators_and_their_projectors_agree_by_name(
    gives: dict[str, ConditioningInfo], reads: dict[str, ConditioningInfo], words: str
) -> None:
    problems = told(draw_out={"conditioning": gives}, draw={"conditioning": reads})
    assert problems == ([words] if words else [])


def test_a_component_without_a_card_is_told() -> None:
    problems = check_cards(PLAN, {})
    assert len(problems) == len(PLAN.nodes)
    assert "has shown no card" in problems[0].message
