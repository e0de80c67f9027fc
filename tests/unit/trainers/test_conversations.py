from __future__ import annotations

import numpy as np
import pytest
import torch

from services.backbone.tokenizer import load_tokenizer, train_tokenizer
from services.playroom.films import Film, FilmFacts
from services.playroom.scenes import Scene, SceneObject, draw_scene
from services.playroom.sounds import Sound, SoundFacts
from services.playroom.words import HELD_OUT_PAIRS
from services.trainers.conversations import IGNORED, Conversation, ConversationMaker, Encoder, table_of
from services.trainers.language import Earlier, moved, tokenizer_lines
from services.trainers.media import CELLS, MAX_WORDS, Speech, cell_words, frame_words, heard_words, words_of
from services.trainers.talks import spoken_words

SIGNALS = {"image": 4, "video": 24, "audio": 8}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return train_tokenizer(tokenizer_lines(1, n_lines=6000), 2048, SIGNALS)


def test_batches_learn_answers_alone_and_make_room_for_pictures(files: dict[str, bytes]) -> None:
    encoder = Encoder(files["tokenizer.json"])
    rng = np.random.default_rng(0)
    talks = [ConversationMaker(rng, speak_freely=False).about(lambda: draw_scene(1), 100) for _ in range(6)]
    batch = encoder(talks, [words_of(medium, rng) for talk in talks for medium in talk.media])
    assert len(batch.media_at) == CELLS * sum(len(talk.media) for talk in talks) == len(batch.words)
    assert encoder(talks, [CELLS] * sum(len(talk.media) for talk in talks)).words.eq(-1).all()
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
    ids = Encoder(files["tokenizer.json"])([Conversation(text + "x<|end|>", ())], [1]).ids[0]
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
        assert not any(scene.names_held_out_pair for scene in talk.media if isinstance(scene, Scene))
        assert not any(f"{color} {shape}" in talk.text for color, shape in HELD_OUT_PAIRS)


def test_cells_are_told_in_reading_order_by_words_of_one_token(files: dict[str, bytes]) -> None:
    scene = Scene((SceneObject("circle", "red", "large", 0), SceneObject("ring", "orange", "small", 5)), "white")
    words = cell_words(scene)
    assert words[0] == (" large", " red", " circle", " white", " top", " left")
    assert words[4] == (" nothing", " white", " center")
    assert words[5] == (" small", " orange", " ring", " white", " right")
    batch = Encoder(files["tokenizer.json"])([], [words, words_of(draw_scene(1), np.random.default_rng(0))])
    assert batch.words.shape == (18, MAX_WORDS)
    assert table_of(scene).startswith("[ large red circle | nothing | ")


def test_frames_tell_where_the_object_is_by_then_and_about_how_large() -> None:
    words = frame_words(Film(FilmFacts("red", "star", "moving left", "gray"), "large"))
    assert words[0] == (" film", " large", " red", " star", " gray", " right")
    assert words[-1][-1] == " left"
    growing = frame_words(Film(FilmFacts("red", "star", "growing", "gray"), "small"))
    assert [frame[1] for frame in growing] == [" small"] * 3 + [" large"] * 5


def test_sounds_and_speech_are_told_in_order_among_silence() -> None:
    rng = np.random.default_rng(3)
    for shown, said in (
        (Sound(SoundFacts("beep", "high", 2)), [" sound", " two", " high", " beeps"]),
        (Sound(SoundFacts("sweep", "rising")), [" sound", " a", " rising", " sweep"]),
        (Speech("What is left of the star?"), [" what", " is", " left", " of", " the", " star"]),
    ):
        for _ in range(20):
            heard = [words[0] for words in heard_words(shown, rng)]
            spotted = [word for word, before in zip(heard, ["", *heard], strict=False) if word != before]
            assert [word for word in spotted if word != " silence"] == said


def test_every_spoken_word_is_one_token(files: dict[str, bytes]) -> None:
    encoder = Encoder(files["tokenizer.json"])
    assert len({encoder.word(f" {word}") for word in (*spoken_words(), "silence", "sound", "film")}) > 200


def test_weights_move_to_a_tokenizer_with_more_merges(files: dict[str, bytes]) -> None:
    few = train_tokenizer(["what is this"] * 9, 2048, SIGNALS)["tokenizer.json"]
    rows_VD = torch.arange(2048.0)[:, None].expand(-1, 2).contiguous()
    moved_VD = moved(Earlier(few, {"model.embed_tokens.weight": rows_VD}), files["tokenizer.json"])[
        "model.embed_tokens.weight"
    ]
    old, new = Encoder(few).tokenizer, Encoder(files["tokenizer.json"]).tokenizer
    assert moved_VD[new.token_to_id("<|media|>"), 0] == old.token_to_id("<|media|>")
    pieces = old.encode(" star").ids
    assert len(pieces) > 1
    assert moved_VD[Encoder(files["tokenizer.json"]).word(" star"), 0] == pytest.approx(sum(pieces) / len(pieces))
