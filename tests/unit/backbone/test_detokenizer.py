"""Text comes in whole characters, and what may become a stop string is held back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from services.backbone.detokenizer import REPLACEMENT, Detokenizer, StopScanner
from tests.fakes import tiny

TOKENIZER = Tokenizer.from_str(tiny.tokenizer_files()["tokenizer.json"].decode())
PLAIN_IDS = [
    number for number in range(TOKENIZER.get_vocab_size()) if number not in TOKENIZER.get_added_tokens_decoder()
]


def decode(ids: list[int]) -> str:
    return str(TOKENIZER.decode(ids, skip_special_tokens=False))


def stream(ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(decode)  # type: ignore[arg-type]
    return [detokenizer.push(token) for token in ids]


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_streamed_in_whole_characters(text: str) -> None:
    pieces = stream(TOKENIZER.encode(text, add_special_tokens=False).ids)
    # What ends in a replacement character could still be half of another one.
    assert "".join(pieces) == text.rstrip(REPLACEMENT) or text.startswith("".join(pieces))
    if REPLACEMENT not in text:
        assert all(REPLACEMENT not in piece for piece in pieces)
        assert "".join(pieces) == text


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.sampled_from(PLAIN_IDS), max_size=40))
def test_any_tokens_stream_to_what_they_decode_to(ids: list[int]) -> None:
    streamed, whole = "".join(stream(ids)), decode(ids)
    assert whole.startswith(streamed)
    assert set(whole[len(streamed) :]) <= {REPLACEMENT}


def test_a_character_of_four_bytes_comes_at_once() -> None:
    ids = TOKENIZER.encode("a😀", add_special_tokens=False).ids
    assert [piece for piece in stream(ids) if piece] == ["a", "😀"]


def test_going_on_shows_only_what_is_new() -> None:
    ids = TOKENIZER.encode("a red é circle", add_special_tokens=False).ids
    for cut in range(len(ids)):
        detokenizer = Detokenizer(decode, ids[:cut])  # type: ignore[arg-type]
        shown = decode(ids[:cut]).rstrip(REPLACEMENT)
        assert shown + "".join(detokenizer.push(token) for token in ids[cut:]) == "a red é circle"


@settings(max_examples=500, deadline=None)
@given(
    pieces=st.lists(st.text("abc", max_size=4), max_size=12),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
)
def test_nothing_of_a_stop_string_is_shown(pieces: list[str], stops: list[str]) -> None:
    scanner = StopScanner(tuple(stops))
    shown = ""
    for piece in pieces:
        shown += scanner.push(piece)
        assert not any(stop in shown for stop in stops)
        if scanner.stopped:
            break
    text = "".join(pieces)
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    if scanner.stopped:
        assert ends
        assert text.startswith(shown)
    else:
        assert not ends
        assert shown + scanner.flush() == text


def test_the_earliest_stop_string_wins() -> None:
    scanner = StopScanner(("cd", "b"))
    assert scanner.push("abcd") == "a"
    assert scanner.stopped
    assert scanner.push("more") == ""
