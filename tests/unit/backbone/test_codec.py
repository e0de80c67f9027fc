"""The text codec: what people write is text, control tokens are the template's alone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.errors import FailedPrecondition, InvalidRequest
from graph.messages import Segment, Tensor, Turn
from services.backbone.codec import MediaSlot, Run, TextCodec, load_tokenizer
from tests.fakes import tiny

MEDIUM = Segment(embeddings=Tensor("float32", (1, 1), (), bytes(4)), modality="image")
MOST = 2_000


@pytest.fixture(scope="module")
def codec() -> TextCodec:
    return make_codec()


def make_codec(files: dict[str, bytes] | None = None, **settings: object) -> TextCodec:
    files = files or tiny.tokenizer_files()
    config = {**tiny.decoder_config(), **settings}
    return TextCodec(load_tokenizer(files, config["decoder"]), config, files)


def user(*segments: Segment | str) -> list[Turn]:
    return [Turn("user", tuple(Segment(text=one) if isinstance(one, str) else one for one in segments))]


def ids_of(runs: Sequence[Run]) -> list[int]:
    return [i for run in runs if not isinstance(run, MediaSlot) for i in run]


def controls(codec: TextCodec, runs: Sequence[Run]) -> list[str]:
    return [str(codec.backend.id_to_token(i)) for i in ids_of(runs) if i in codec.control_ids]


FRAME = ["<|begin|>", "<|user|>", "<|end|>", "<|assistant|>"]


def test_the_template_frames_a_turn(codec: TextCodec) -> None:
    runs = codec.encode(user("how many?"), raw=False, most_tokens=MOST)
    assert controls(codec, runs) == FRAME
    assert codec.decode(ids_of(runs)) == "how many?"


def test_media_stand_where_they_stood(codec: TextCodec) -> None:
    runs = codec.encode(user("one ", MEDIUM, " two ", MEDIUM), raw=False, most_tokens=MOST)
    assert [run.index for run in runs if isinstance(run, MediaSlot)] == [0, 1]
    texts = [codec.decode(run) for run in runs if not isinstance(run, MediaSlot)]
    assert texts == ["one ", " two ", ""]


def test_turns_are_told_apart(codec: TextCodec) -> None:
    turns = [*user("a"), Turn("assistant", (Segment(text="b"),)), *user("c")]
    runs = codec.encode(turns, raw=False, most_tokens=MOST)
    roles = [name for name in controls(codec, runs) if name in {"<|user|>", "<|assistant|>"}]
    assert roles == ["<|user|>", "<|assistant|>", "<|user|>", "<|assistant|>"]


@pytest.mark.parametrize("raw", [False, True])
def test_no_text_becomes_a_control_token(codec: TextCodec, raw: bool) -> None:
    for name in codec.control:
        for text in (name, f"a{name}b", f" {name} {name}", f"{name}\n"):
            runs = codec.encode(user(text), raw=raw, most_tokens=MOST)
            assert controls(codec, runs) == ([] if raw else FRAME), text
            assert codec.decode(ids_of(runs)) == text


def test_texts_do_not_spell_a_control_token_together(codec: TextCodec) -> None:
    runs = codec.encode(user("<|me", "dia|>", "<|", "end|>"), raw=False, most_tokens=MOST)
    assert controls(codec, runs) == FRAME
    assert codec.decode(ids_of(runs)) == "<|media|><|end|>"


def test_a_medium_between_two_halves_stays_there(codec: TextCodec) -> None:
    runs = codec.encode(user("<|media|>", MEDIUM, "<|end|>"), raw=False, most_tokens=MOST)
    assert sum(isinstance(run, MediaSlot) for run in runs) == 1
    assert codec.decode(ids_of(runs)) == "<|media|><|end|>"


TEMPLATE_IMAGES_FIRST = (
    "{% for m in messages %}{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}<|media|>"
    "{% endfor %}{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] }}{% endfor %}"
    "{% endfor %}"
)


def with_template(template: str) -> dict[str, bytes]:
    return {**tiny.tokenizer_files(), "chat_template.jinja": template.encode()}


def test_a_template_that_joins_texts_does_not_spell_either() -> None:
    codec = make_codec(with_template(TEMPLATE_IMAGES_FIRST))
    runs = codec.encode(user("<|me", MEDIUM, "dia|>"), raw=False, most_tokens=MOST)
    assert [isinstance(run, MediaSlot) for run in runs] == [True, *([False] * (len(runs) - 1))]
    assert codec.decode(ids_of(runs)) == "<|media|>"


def test_a_template_that_forgets_media_is_found_out() -> None:
    codec = make_codec(with_template("{% for m in messages %}{{ m['content'][0]['type'] }}{% endfor %}"))
    with pytest.raises(InvalidRequest, match="0 places for 1 media"):
        codec.encode(user(MEDIUM), raw=False, most_tokens=MOST)


def test_a_template_may_refuse() -> None:
    codec = make_codec(with_template("{{ raise_exception('roles must alternate') }}"))
    with pytest.raises(InvalidRequest, match="roles must alternate"):
        codec.encode(user("a"), raw=False, most_tokens=MOST)


def test_a_backbone_without_media_token_still_takes_media() -> None:
    codec = make_codec(with_template("{% for m in messages %}[{{ m['content'] }}]{% endfor %}"), media_token="")
    runs = codec.encode(user("a", MEDIUM, "b"), raw=False, most_tokens=MOST)
    assert [run if isinstance(run, MediaSlot) else codec.decode(run) for run in runs] == [
        "[", "a", MediaSlot(0), "b", "]"
    ] or "".join("*" if isinstance(run, MediaSlot) else codec.decode(run) for run in runs) == "[a*b]"  # fmt: skip


def test_ids_go_in_as_they_are(codec: TextCodec) -> None:
    runs = codec.encode(user(Segment(token_ids=(5, 900)), "a"), raw=True, most_tokens=MOST)
    assert ids_of(runs)[:2] == [5, 900]
    framed = codec.encode(user("a", Segment(token_ids=(5, 900))), raw=False, most_tokens=MOST)
    assert {5, 900} <= set(ids_of(framed))


@pytest.mark.parametrize(
    ("turns", "complaint"),
    [
        (user("a\0b"), "NUL"),
        (user("a\ud800"), "lone surrogate"),
        (user(""), "0 tokens"),
        ([Turn("user", ())], "0 tokens"),
    ],
)
def test_what_is_no_prompt_is_refused(codec: TextCodec, turns: list[Turn], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        codec.encode(turns, raw=True, most_tokens=MOST)


def test_endless_text_is_refused_unread(codec: TextCodec) -> None:
    begin = time.perf_counter()
    with pytest.raises(InvalidRequest, match="at least"):
        codec.encode(user("what is it? " * 300_000), raw=False, most_tokens=MOST)
    print(f"refused after {1000 * (time.perf_counter() - begin):.1f} ms")


def test_a_tokenizer_without_the_signals_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match=r"<\|image_4\|>"):
        make_codec(signals={"image": 5})


def test_signals_may_have_names_of_their_own() -> None:
    """NExT-GPT's are ordinary words added to its tokenizer; typed by people they stay words."""
    files = dict(tiny.tokenizer_files())
    names = {"<|reserved_0|>": "[IMG0]", "<|reserved_1|>": "[IMG1]"}
    tables = json.loads(files["tokenizer.json"])
    for token in tables["added_tokens"]:
        if token["content"] in names:
            token.update(content=names[token["content"]], special=False)
    files["tokenizer.json"] = json.dumps(tables).encode()
    codec = make_codec(files, signals={"image": 2}, signal_names={"image": "[IMG{}]"})
    ids = codec.signal_ids["image"]
    assert [codec.backend.id_to_token(number) for number in ids] == ["[IMG0]", "[IMG1]"]
    assert set(ids) <= codec.control_ids
    for text in ("[IMG0]", "draw [IMG0][IMG1] twice", "[IM", "G0]"):
        runs = codec.encode(user(text), raw=False, most_tokens=MOST)
        assert set(ids).isdisjoint(ids_of(runs)), text
        assert codec.decode(ids_of(runs)) == text
    assert codec.decode((*ids, *codec.encode(user("a"), raw=True, most_tokens=MOST)[0])) == "a"  # type: ignore[misc]
    assert (
        codec.fingerprint != make_codec(files, signals={"image": 2}, signal_names={"image": "<|image_{}|>"}).fingerprint
    )


@pytest.mark.parametrize(
    ("signals", "names"),
    [
        ({"image": 2, "audio": 2}, {"audio": "<|image_{}|>"}),
        ({"image": 2}, {"image": "<|image_0|>"}),
        ({"image": 0}, {}),
    ],
)
def test_signals_that_cannot_be_told_apart_are_refused(signals: dict[str, int], names: dict[str, str]) -> None:
    with pytest.raises(FailedPrecondition, match="at least one token for each modality"):
        make_codec(signals=signals, signal_names=names)


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_text_comes_back(codec: TextCodec, text: str) -> None:
    assert codec.decode(ids_of(codec.encode(user(text), raw=False, most_tokens=10**6))) == text
    assert codec.decode(ids_of(codec.encode(user(text), raw=True, most_tokens=10**6))) == text


def test_the_fingerprint_is_that_of_tokenizer_template_and_signals() -> None:
    first = make_codec().fingerprint
    assert first == make_codec().fingerprint
    assert first != make_codec(with_template("{{ messages }}")).fingerprint
    assert first != make_codec(signals={"image": 2}).fingerprint
