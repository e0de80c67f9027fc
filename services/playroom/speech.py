"""Speech: sentences spoken by espeak-ng in several voices. Needed to train and to measure, never to serve."""

# T samples

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.playroom.listening import to_rate
from services.playroom.questions import normalize_answer
from services.playroom.sounds import SAMPLE_RATE_HZ
from services.playroom.synthesis import Floats

PROGRAM: Final = "espeak-ng"
MAX_WORDS: Final = 8
MAX_SPEECH_S: Final = 4.0
WORDS_PER_MINUTE: Final = (130, 180)
_ACCENTS = ("en", "en-us", "en-gb-x-rp")
_SPEAKERS = ("", "+m3", "+m7", "+f2", "+f4")
VOICES: Final = tuple(f"{accent}{speaker}" for accent in _ACCENTS for speaker in _SPEAKERS)
"""Accents and speakers as espeak-ng names them; `en` is British, and under the name `en-gb` has one speaker only."""

_TIMEOUT_S = 20.0
_FULL_SCALE = 32768.0


class SpeechError(RuntimeError):
    """Nothing could be spoken; says why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One sentence, who says it, and how fast."""

    sentence: str
    voice: str
    words_per_minute: int


def utterance_from(rng: np.random.Generator, sentence: str) -> Utterance:
    """Draws who says a sentence, and how fast.

    Raises:
        ValueError: It has too many words.
    """
    n_words = len(sentence.split())
    if n_words > MAX_WORDS:
        raise ValueError(f"{sentence!r} has {n_words} words, at most {MAX_WORDS} are spoken")
    slowest, fastest = WORDS_PER_MINUTE
    return Utterance(sentence, VOICES[int(rng.integers(len(VOICES)))], int(rng.integers(slowest, fastest + 1)))


def can_speak(program: str = PROGRAM) -> bool:
    """Whether espeak-ng is there."""
    return shutil.which(program) is not None


def _wav_samples(data: bytes) -> tuple[Floats, int]:
    """Samples and rate of a streamed WAV, whose header does not know how long it is."""
    at, rate_hz = 12, 0
    while data[:4] == b"RIFF" and at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"fmt ":
            rate_hz = struct.unpack_from("<I", data, at + 12)[0]
        if name == b"data":
            levels = np.frombuffer(data, "<i2", (min(size, len(data) - at - 8)) // 2, at + 8)
            return levels.astype(np.float32) / np.float32(_FULL_SCALE), rate_hz
        at += 8 + size
    raise SpeechError(f"{PROGRAM} wrote {len(data)} bytes that are no WAV, expected 16-bit PCM")


def speak(utterance: Utterance, program: str = PROGRAM) -> Floats:
    """Speaks a sentence, at 16 kHz (T).

    Raises:
        SpeechError: espeak-ng is missing or fails.
    """
    found = shutil.which(program)
    if found is None:
        raise SpeechError(f"{program} is not installed: speech needs it; on Debian: apt-get install espeak-ng")
    command = [found, "-v", utterance.voice, "-s", str(utterance.words_per_minute), "--stdin", "--stdout"]
    try:
        # the program is a path that was just found, and the sentence goes through its standard input
        done = subprocess.run(  # noqa: S603
            command, input=utterance.sentence.encode(), capture_output=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise SpeechError(f"{program} could not speak {utterance.sentence!r}: {failed}") from failed
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise SpeechError(f"{program} could not speak {utterance.sentence!r} as {utterance.voice}: {said}")
    # resampling may overshoot
    return np.clip(to_rate(*_wav_samples(done.stdout)), -1.0, 1.0)


def fits(samples_T: Floats) -> bool:
    """Whether speech is as short as the world asks for."""
    return len(samples_T) <= MAX_SPEECH_S * SAMPLE_RATE_HZ


def transcript_of(sentence: str) -> str:
    """How a sentence is written down: lower case, without punctuation."""
    return normalize_answer(sentence)


def words_wrong(said: str, expected: str) -> int:
    """Words to insert, delete or replace to get from an answer to the transcript."""
    heard, wanted = normalize_answer(said).split(), normalize_answer(expected).split()
    row = list(range(len(wanted) + 1))
    for i, word in enumerate(heard, 1):
        before = row
        row = [i]
        for j, other in enumerate(wanted, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (word != other)))
    return row[-1]
