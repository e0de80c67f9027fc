from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from services.playroom.speech import (
    VOICES,
    SpeechError,
    Utterance,
    can_speak,
    fits,
    speak,
    transcript_of,
    utterance_from,
    words_wrong,
)

_HELLO = Utterance("what is left of the ring?", "en-us", 150)
_STAND_IN = """#!/bin/sh
echo "$@" > {folder}/arguments
cat > {folder}/sentence
cat {folder}/answer
"""
needs_espeak = pytest.mark.skipif(not can_speak(), reason="espeak-ng is not installed (Debian package espeak-ng)")


def _program(folder: Path, answer: bytes, script: str = _STAND_IN) -> str:
    """A program in the place of espeak-ng, which keeps what it was asked and answers with bytes."""
    (folder / "answer").write_bytes(answer)
    program = folder / "stand-in"
    program.write_text(script.format(folder=folder))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def _streamed_wav(levels: list[int]) -> bytes:
    """A WAV of 22,050 Hz as espeak-ng streams it: its lengths are not known yet."""
    unknown = 0x7FFFF000.to_bytes(4, "little")
    layout = b"fmt \x10\0\0\0\x01\0\x01\0" + (22_050).to_bytes(4, "little") + (44_100).to_bytes(4, "little")
    samples = np.array(levels, "<i2").tobytes()
    return b"RIFF" + unknown + b"WAVE" + layout + b"\x02\0\x10\0" + b"data" + unknown + samples


def test_the_program_is_told_who_speaks_and_how_fast(tmp_path: Path) -> None:
    program = _program(tmp_path, _streamed_wav([16_384] * 2205))
    samples = speak(Utterance("draw a cat", "en-gb+f2", 170), program)
    assert (tmp_path / "arguments").read_text().split() == ["-v", "en-gb+f2", "-s", "170", "--stdin", "--stdout"]
    assert (tmp_path / "sentence").read_text() == "draw a cat"
    assert samples.shape == (1600,)
    assert samples[400:1200] == pytest.approx(0.5, abs=0.01)


def test_without_the_program_the_error_names_the_package() -> None:
    with pytest.raises(SpeechError, match="no-such-program is not installed.*apt-get install espeak-ng"):
        speak(_HELLO, "no-such-program")


def test_what_the_program_says_about_a_failure_is_passed_on(tmp_path: Path) -> None:
    program = _program(tmp_path, b"", "#!/bin/sh\necho 'no such voice' >&2\nexit 3\n")
    with pytest.raises(SpeechError, match="could not speak 'what is left of the ring\\?' as en-us: no such voice"):
        speak(_HELLO, program)


def test_what_is_no_wav_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match="9 bytes that are no WAV"):
        speak(_HELLO, _program(tmp_path, b"not a wav"))


def test_speakers_and_rates_are_those_of_the_world() -> None:
    rng = np.random.default_rng(0)
    drawn = [utterance_from(rng, "play it again") for _ in range(3000)]
    assert {utterance.voice for utterance in drawn} == set(VOICES)
    rates = [utterance.words_per_minute for utterance in drawn]
    assert (min(rates), max(rates)) == (130, 180)
    with pytest.raises(ValueError, match="has 9 words, at most 8"):
        utterance_from(rng, "one two three four five six seven eight nine")


@needs_espeak
def test_every_voice_speaks_differently_and_slower_is_longer() -> None:
    spoken = [speak(Utterance(_HELLO.sentence, voice, 150)) for voice in VOICES]
    assert len({samples.tobytes() for samples in spoken}) == len(VOICES)
    for samples in spoken:
        assert fits(samples)
        assert 0.05 < np.abs(samples).max() <= 1
    slow, fast = (speak(Utterance(_HELLO.sentence, "en-us", rate)) for rate in (130, 180))
    assert len(slow) > 1.2 * len(fast)
    assert (slow == speak(Utterance(_HELLO.sentence, "en-us", 130))).all()


def test_transcripts_are_lower_case_without_punctuation() -> None:
    assert transcript_of("The red ring: what colour?") == "the red ring what color"


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("Draw a red circle.", 0),
        ("draw a red circle please", 1),
        ("draw red circle", 1),
        ("draw a blue square", 2),
        ("", 4),
    ],
)
def test_wrong_words_are_counted(said: str, wrong: int) -> None:
    assert words_wrong(said, "draw a red circle") == wrong
