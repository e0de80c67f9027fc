from __future__ import annotations

import numpy as np
import pytest
import torch

from services.backbone.tokenizer import load_tokenizer, train_tokenizer
from services.playroom.scenes import Scene, SceneObject, Split, draw_scene
from services.playroom.words import HELD_OUT_PAIRS
from services.trainers.conversations import (
    CELLS,
    IGNORED,
    Conversation,
    ConversationMaker,
    Encoder,
    cell_words,
    changed_scene,
    table_of,
)
from services.trainers.language import CellWords, tokenizer_lines

SIGNALS = {"image": 4, "video": 24, "audio": 8}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return train_tokenizer(tokenizer_lines(1, n_lines=6000), 2048, SIGNALS)


def test_batches_learn_answers_alone_and_make_room_for_pictures(files: dict[str, bytes]) -> None:
    encoder = Encoder(files["tokenizer.json"])
    rng = np.random.default_rng(0)
    talks = [ConversationMaker(rng, speak_freely=False).about(lambda: draw_scene(1), 100) for _ in range(6)]
    batch = encoder(talks)
    assert len(batch.media_at) == CELLS * len(batch.scenes)
    assert len(batch.kinds) == int(batch.answer.max()) + 1
    learnt = batch.labels != IGNORED
    assert torch.equal(learnt, batch.weights > 0)
    row = batch.labels[0]
    answers = encoder.tokenizer.decode(row[row != IGNORED].tolist(), skip_special_tokens=False)
    expected = "".join(piece.split("<|end|>")[0] + "<|end|>" for piece in talks[0].text.split("<|assistant|>")[1:])
    assert answers == expected


def test_conversations_read_as_the_chat_template_writes(files: dict[str, bytes]) -> None:
    text = (
        "<|begin|><|system|>be brief<|end|><|user|><|media_begin|><|media|><|media_end|>what is this?<|end|>"
        "<|assistant|>red<|end|><|user|>why?<|end|><|assistant|>"
    )
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this?"}]},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "why?"},
    ]
    tokenizer = load_tokenizer(files)
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == text
    ids = Encoder(files["tokenizer.json"], tokens_per_picture=1)([Conversation(text + "x<|end|>", ())]).ids[0]
    assert tokenizer(text + "x<|end|>", add_special_tokens=False).input_ids == ids.tolist()


def test_conversations_about_pictures_name_no_held_out_pair() -> None:
    rng = np.random.default_rng(1)
    maker = ConversationMaker(rng, speak_freely=False)
    for seed in range(300):
        talk = (
            maker.about(lambda seed=seed: draw_scene(seed), 100)
            if seed % 3
            else maker.compare(  # type: ignore[misc]
                lambda seed=seed: draw_scene(seed),
                60,  # type: ignore[misc]
            )
        )
        assert not any(scene.names_held_out_pair for scene in talk.scenes)
        assert not any(f"{color} {shape}" in talk.text for color, shape in HELD_OUT_PAIRS)


def test_exactly_one_attribute_changes() -> None:
    rng = np.random.default_rng(2)
    for seed in range(200):
        before = draw_scene(seed)
        after, attribute = changed_scene(before, rng, speak_freely=False)
        lost = {item.attributes for item in before.objects} - {item.attributes for item in after.objects}
        new = {item.attributes for item in after.objects} - {item.attributes for item in before.objects}
        assert len(lost) == len(new) == 1
        differing = [name for name, a, b in zip(
            ("shape", "color", "size", "place"), lost.pop(), new.pop(), strict=True
        ) if a != b]  # fmt: skip
        assert differing == [attribute]


def test_cells_are_told_in_reading_order_by_words_of_one_token(files: dict[str, bytes]) -> None:
    scene = Scene((SceneObject("circle", "red", "large", 0), SceneObject("ring", "orange", "small", 5)), "white")
    words = cell_words(scene)
    assert words[0] == (" large", " red", " circle", " white", " top", " left")
    assert words[4] == (" nothing", " white", " center")
    assert words[5] == (" small", " orange", " ring", " white", " right")
    ids = CellWords(Encoder(files["tokenizer.json"]))([scene, draw_scene(1, Split.TRAIN)])
    assert ids.shape == (18, 6)
    assert table_of(scene).startswith("[ large red circle | nothing | ")
