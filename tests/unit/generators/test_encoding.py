"""Files that come out are those that other programs read."""

from __future__ import annotations

import io
import wave

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from graph.errors import Internal
from graph.messages import RenderProgress, RenderStarted
from services.generators.encoding import FILM_CODECS, Medium, encode, film_codec
from services.generators.outbox import PROGRESS_AHEAD, Outbox
from services.playroom.codecs import decode_film


def film(frames: int = 8, height: int = 64, width: int = 64) -> NDArray[np.float32]:
    values = np.zeros((frames, height, width, 3), np.float32)
    for index in range(frames):
        values[index, :, : (index + 1) * width // frames, 0] = 1.0
        values[index, height // 2 :, :, 2] = 0.5
    return values


def test_a_picture_is_what_it_was() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    data = encode(Medium((pixels / 255).astype(np.float32)), "image/png")
    assert (np.asarray(Image.open(io.BytesIO(data))) == pixels).all()


def test_values_beyond_the_range_are_cut() -> None:
    picture = np.full((8, 8, 3), 7.0, np.float32)
    picture[0] = -7.0
    pixels = np.asarray(Image.open(io.BytesIO(encode(Medium(picture), "image/png"))))
    assert (pixels[0] == 0).all()
    assert (pixels[1:] == 255).all()


def test_a_sound_is_what_it_was() -> None:
    samples = np.sin(np.arange(3_200) / 10).astype(np.float32) * 1.5
    with wave.open(io.BytesIO(encode(Medium(samples, 16_000), "audio/wav"))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (
            1,
            2,
            16_000,
            3_200,
        )
        read = np.frombuffer(file.readframes(3_200), "<i2") / 32_767
    assert np.abs(read - np.clip(samples, -1, 1)).max() < 1e-4


@pytest.mark.parametrize("mime_type", ["video/mp4", "image/gif"])
def test_a_film_is_nearly_what_it_was(mime_type: str) -> None:
    values = film()
    data = encode(Medium(values, 4.0), mime_type)
    read = decode_film(data).astype(np.float32) / 255
    assert read.shape == values.shape
    assert np.abs(read - values).mean() < 0.05
    if mime_type == "video/mp4":
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == 4
            assert stream.codec_context.name == "h264"
            assert stream.pix_fmt == "yuv420p"


def test_frames_that_are_alike_all_come() -> None:
    still = np.repeat(film(1), 8, 0)
    assert len(decode_film(encode(Medium(still, 4.0), "video/mp4"))) == 8


def test_odd_sides_are_made_even_for_the_film() -> None:
    assert decode_film(encode(Medium(film(2, 15, 17), 8.0), "video/mp4")).shape == (2, 16, 18, 3)


def test_browsers_play_what_is_written() -> None:
    assert film_codec() in list(FILM_CODECS)[:2]


async def test_an_outbox_forgets_old_progress_and_nothing_else() -> None:
    outbox = Outbox()
    outbox.put(RenderStarted("image/png"))
    for step in range(1, 1_001):
        outbox.put(RenderProgress(step, 1_000, b"preview"))
    medium = Medium(np.zeros((1, 1, 3), np.float32))
    outbox.put(medium)
    assert len(outbox) == PROGRESS_AHEAD + 2
    events = [await outbox.get() for _ in range(len(outbox))]
    assert events[0] == RenderStarted("image/png")
    assert events[-1] is medium
    steps = [event.step for event in events if isinstance(event, RenderProgress)]
    assert steps == list(range(1_001 - PROGRESS_AHEAD, 1_001))
    outbox.put(Internal("broken"))
    with pytest.raises(Internal):
        await outbox.get()
