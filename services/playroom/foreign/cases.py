"""Cases whose media other programs make: they are ordered one by one and made many at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias, TypeVar

import numpy as np

from services.playroom.films import Film
from services.playroom.foreign.drawing import SIDES_PX, PictureOrder, draw_frames, draw_pictures, order_picture
from services.playroom.foreign.encoding import FILM_TYPES, SOUND_TYPES, encode_films, encode_sounds
from services.playroom.foreign.playing import SoundOrder, order_sound, play_sounds
from services.playroom.media_cases import MediaCase, Part, draw_media_cases
from services.playroom.scenes import Scene, Split
from services.playroom.sounds import Sound
from services.playroom.studio import Medium
from services.playroom.synthesis import Floats, encode_wav

_ORDERED: Final = "order/foreign"
_AT_A_TIME = 48
_SPOKEN_ENDINGS: Final = ("mp3", "opus")


@dataclass(frozen=True)
class FilmOrder:
    """A film to be drawn and encoded."""

    film: Film
    side_px: int
    ending: str

    @property
    def mime_type(self) -> str:
        """Its media type."""
        return FILM_TYPES[self.ending]


@dataclass(frozen=True)
class SpeechOrder:
    """Speech to be encoded."""

    samples_T: Floats  # noqa: N815 - the suffix is its shape
    ending: str

    @property
    def mime_type(self) -> str:
        """Its media type."""
        return SOUND_TYPES[self.ending]


Order: TypeAlias = PictureOrder | SoundOrder | FilmOrder | SpeechOrder
OrderT = TypeVar("OrderT", bound=Order)


def make_films(orders: Sequence[FilmOrder], folder: Path) -> list[bytes]:
    """Draws films with ImageMagick and encodes them with FFmpeg.

    Raises:
        ForeignError: One of them is missing or fails.
    """
    paths = draw_frames([(order.film, order.side_px) for order in orders], folder)
    sides = [order.side_px for order in orders]
    return encode_films(list(zip(paths, sides, strict=True)), [order.ending for order in orders], folder)


def _encode_speech(orders: Sequence[SpeechOrder], folder: Path) -> list[bytes]:
    paths = [folder / f"speech-{index}.wav" for index in range(len(orders))]
    for path, order in zip(paths, orders, strict=True):
        path.write_bytes(encode_wav(order.samples_T))
    return encode_sounds(paths, [order.ending for order in orders], folder)


class ForeignStudio:
    """Takes orders for media; ``deliver`` makes all of them, by several processes at a time.

    Args:
        workers: Processes at a time; without it as many as there are cores.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or os.cpu_count() or 1
        self._orders: list[Order] = []

    def picture(self, scene: Scene, rng: np.random.Generator) -> Medium:
        """Orders a picture."""
        return self._order("image", order_picture(scene, rng))

    def sound(self, sound: Sound, rng: np.random.Generator) -> Medium:
        """Orders a sound."""
        return self._order("audio", order_sound(sound, rng))

    def film(self, film: Film, rng: np.random.Generator) -> Medium:
        """Orders a film."""
        endings = tuple(FILM_TYPES)
        side_px = SIDES_PX[int(rng.integers(len(SIDES_PX)))]
        return self._order("video", FilmOrder(film, side_px, endings[int(rng.integers(len(endings)))]))

    def speech(self, sentence: str, samples_T: Floats, rng: np.random.Generator) -> Medium:
        """Orders what was spoken, compressed."""
        ending = _SPOKEN_ENDINGS[int(rng.integers(len(_SPOKEN_ENDINGS)))]
        return self._order("audio", SpeechOrder(samples_T, ending), sentence)

    def _order(self, modality: str, order: Order, said: str = "") -> Medium:
        self._orders.append(order)
        return Medium(modality, _ORDERED, str(len(self._orders) - 1).encode(), said)

    def deliver(self, cases: Sequence[MediaCase]) -> list[MediaCase]:
        """Makes everything that was ordered, and hands it in with the cases it was ordered for.

        Raises:
            ForeignError: A program is missing or fails.
        """
        made = self._make_all()

        def filled(parts: Sequence[Part]) -> tuple[Part, ...]:
            return tuple(made_of(part) if isinstance(part, Medium) else part for part in parts)

        def made_of(medium: Medium) -> Medium:
            index = int(medium.data)
            return replace(medium, mime_type=self._orders[index].mime_type, data=made[index])

        delivered = [
            replace(
                case,
                parts=filled(case.parts),
                earlier=tuple(replace(turn, parts=filled(turn.parts)) for turn in case.earlier),
            )
            for case in cases
        ]
        self._orders = []
        return delivered

    def _make_all(self) -> dict[int, bytes]:
        with ThreadPoolExecutor(max_workers=self._workers) as pool:
            jobs = [
                *self._jobs(pool, PictureOrder, draw_pictures, 16),
                *self._jobs(pool, SoundOrder, play_sounds, 8),
                *self._jobs(pool, FilmOrder, make_films, 8),
                *self._jobs(pool, SpeechOrder, _encode_speech, 16),
            ]
            return {index: data for job in jobs for index, data in job.result()}

    def _jobs(
        self,
        pool: ThreadPoolExecutor,
        kind: type[OrderT],
        make: Callable[[Sequence[OrderT], Path], list[bytes]],
        at_a_time: int,
    ) -> list[Future[list[tuple[int, bytes]]]]:
        """Starts to make all orders of a kind, so many by one process."""

        def work(mine: Sequence[tuple[int, OrderT]]) -> list[tuple[int, bytes]]:
            with TemporaryDirectory(prefix="playroom-") as folder:
                made = make([order for _, order in mine], Path(folder))
            return [(index, data) for (index, _), data in zip(mine, made, strict=True)]

        waiting = iter([(index, order) for index, order in enumerate(self._orders) if isinstance(order, kind)])
        started = []
        while mine := list(islice(waiting, at_a_time)):
            started.append(pool.submit(work, mine))
        return started


def draw_foreign_cases(
    split: Split, task: str, count: int, seed: int = 0, workers: int | None = None
) -> Iterator[MediaCase]:
    """Draws cases of a split like `draw_media_cases`, with media that other programs make.

    Raises:
        ValueError: There is no such task.
        ForeignError: A program is missing or fails.
        SpeechError: The task needs speech, and espeak-ng is missing or fails.
    """
    studio = ForeignStudio(workers)
    drawn = draw_media_cases(split, task, count, seed, studio)
    while cases := list(islice(drawn, _AT_A_TIME)):
        yield from studio.deliver(cases)
