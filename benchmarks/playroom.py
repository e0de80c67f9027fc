"""How fast the playroom makes pictures, sounds and films, and how often its judges agree with it after every codec.

A judge that does not agree with the generator cannot say whether a model is right. `--samples 0` leaves judges out.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks._results import Bar, draw, judge, write
from services.playroom.captions import facts_of
from services.playroom.codecs import FILM_CODINGS, SOUND_CODINGS, decode_film, decode_sound, encode_film, encode_sound
from services.playroom.drawing import draw_scenes, encode_picture, picture_of
from services.playroom.filming import draw_films, encode_gif
from services.playroom.films import draw_film
from services.playroom.judging import read_picture
from services.playroom.listening import read_sound
from services.playroom.scenes import Split, draw_scene, seed_of
from services.playroom.sounds import draw_sound
from services.playroom.synthesis import encode_wav, render_sounds
from services.playroom.watching import read_film

PICTURES_PER_S = 2000.0
AGREEMENT_PERCENT = 99.5
_CORES = 2
_BATCH = 256
Pixels = NDArray[np.uint8]


def _draw_pictures(first: int) -> int:
    return len(draw_scenes([draw_scene(seed) for seed in range(first, first + _BATCH)]))


def _make_sounds(first: int) -> int:
    return len(render_sounds([draw_sound(seed) for seed in range(first, first + _BATCH)]))


def _draw_films(first: int) -> int:
    return len(draw_films([draw_film(seed) for seed in range(first, first + _BATCH)]))


_MAKERS: Final[dict[str, Callable[[int], int]]] = {
    "pictures": _draw_pictures,
    "sounds": _make_sounds,
    "films": _draw_films,
}


def _make_for(what: str, core: int, seconds: float) -> tuple[int, float]:
    """Makes fresh media on one core; returns how many, and the processor's time that took."""
    make, made, first = _MAKERS[what], 0, core * 10**8
    make(first)
    begun_s, worked_s = time.monotonic(), time.process_time()
    while time.monotonic() - begun_s < seconds:
        first += _BATCH
        made += make(first)
    return made, time.process_time() - worked_s


def measure_speed(seconds: float) -> dict[str, dict[str, float]]:
    """Makes media on two cores for some seconds each, descriptions drawn anew for each."""
    speeds = {}
    with multiprocessing.get_context("fork").Pool(_CORES) as pool:
        for what in _MAKERS:
            found = pool.starmap(_make_for, [(what, core, seconds) for core in range(_CORES)])
            made, worked_s = sum(count for count, _ in found), sum(spent for _, spent in found)
            speeds[what] = {"per_s": made / seconds, "per_processor_s": made / worked_s}
    return speeds


def _frames_as_jpeg(frames_FHWC: Pixels) -> Pixels:
    encoded = (encode_picture(Image.fromarray(frame), 80) for frame in frames_FHWC)
    return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in encoded])


def _picture_agrees(way: str, index: int, split: Split) -> bool:
    scene = draw_scene(seed_of(split, index), split)
    data = encode_picture(picture_of(scene), 80 if way == "JPEG 80" else None)
    return read_picture(Image.open(io.BytesIO(data))) == facts_of(scene)


def _sound_agrees(way: str, index: int, split: Split) -> bool:
    sound = draw_sound(seed_of(split, index))
    samples_T = render_sounds([sound])[0]
    data = encode_wav(samples_T) if way == "WAV" else encode_sound(samples_T, SOUND_CODINGS[way.lower()])
    return read_sound(*decode_sound(data)) == sound.facts


def _film_agrees(way: str, index: int, split: Split) -> bool:
    film = draw_film(seed_of(split, index), split)
    frames_FHWC = draw_films([film])[0]
    match way:
        case "PNG":
            seen_FHWC = frames_FHWC
        case "JPEG 80":
            seen_FHWC = _frames_as_jpeg(frames_FHWC)
        case "GIF":
            seen_FHWC = decode_film(encode_gif(frames_FHWC))
        case _:
            seen_FHWC = decode_film(encode_film(frames_FHWC, FILM_CODINGS[way.lower()]))
    return read_film(seen_FHWC) == film.facts


_AGREES: Final[dict[str, Callable[[str, int, Split], bool]]] = {
    "pictures": _picture_agrees,
    "sounds": _sound_agrees,
    "films": _film_agrees,
}
_WAYS: Final[dict[str, tuple[str, ...]]] = {
    "pictures": ("PNG", "JPEG 80"),
    "sounds": ("WAV", "MP3", "Opus"),
    "films": ("PNG", "JPEG 80", "GIF", "MP4", "WebM"),
}


def _agreed(what: str, way: str, indices: Sequence[int]) -> int:
    """Counts agreements; half of what is seen is of the compositional split."""
    return sum(
        _AGREES[what](way, index, Split.COMPOSITIONAL if index % 2 and what != "sounds" else Split.TEST)
        for index in indices
    )


def measure_judges(samples: int) -> dict[str, dict[str, float]]:
    """Returns in how many of 100 cases each judge agrees with the generator, after every codec."""
    shares: dict[str, dict[str, float]] = {what: {} for what in _WAYS}
    with multiprocessing.get_context("fork").Pool(_CORES) as pool:
        for what, ways in _WAYS.items():
            for way in ways:
                parts = [(what, way, range(start, min(start + 50, samples))) for start in range(0, samples, 50)]
                shares[what][way] = 100 * sum(pool.starmap(_agreed, parts)) / samples
                print(f"judge of {what}, {way}: {shares[what][way]:.2f} % of {samples} agree", flush=True)
    return shares


def paint(axes: Any, speeds: dict[str, dict[str, float]]) -> None:  # noqa: ANN401
    """Draws how many of each are made in a second."""
    (axis,) = axes
    axis.barh(list(speeds), [speed["per_s"] for speed in speeds.values()])
    axis.axvline(PICTURES_PER_S, color="C3", linestyle=":")
    axis.set_xlabel("made in a second on two cores (dotted: asked of pictures)")
    axis.invert_yaxis()


def main(arguments: list[str]) -> int:
    """Measures, prints, writes the result."""
    parser = argparse.ArgumentParser(prog="playroom")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args(arguments)
    speeds = measure_speed(options.seconds)
    for what, speed in speeds.items():
        print(f"{what:10} {speed['per_s']:8.0f} a second on two cores, {speed['per_processor_s']:8.0f} a core's second")
    judges = measure_judges(options.samples) if options.samples else {}
    write("playroom", {"speeds": speeds, "judges": judges, "samples": options.samples})
    draw("playroom", 1, lambda axes: paint(axes, speeds))
    bars = [Bar("pictures drawn on two cores", speeds["pictures"]["per_s"], least=PICTURES_PER_S, unit="/s")]
    for what, ways in judges.items():
        for way, share in ways.items():
            bars.append(Bar(f"judge of {what} agrees, {way}", share, least=AGREEMENT_PERCENT, unit="%"))
    return judge(bars)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
