"""Media out of a real cluster of tiny random weights: over the client, the command line, and an evaluation."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anyplex import (
    Client,
    Finished,
    Image,
    InvalidRequest,
    MediaParameters,
    MediaProgress,
    MediaStarted,
    Message,
)
from services.playroom.codecs import decode_film, decode_sound
from tests import pictures
from tests.cluster import Cluster, running_tiny
from tests.fakes import tiny

pytestmark = pytest.mark.cluster

SYSTEM = str(tiny.MAKING)
MEDIA = ("image", "audio", "video")
FEW_STEPS = {modality: MediaParameters(steps=3) for modality in MEDIA}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_tiny(tmp_path_factory.mktemp("making"), "making", SYSTEM) as cluster:
        yield cluster


def test_all_three_come_side_by_side_and_are_what_they_say(client: Client) -> None:
    seen: list[object] = []
    reply = client.generate(
        "anything", outputs=MEDIA, media_parameters=FEW_STEPS, max_tokens=48, seed=1, on_event=seen.append
    )
    assert reply.failures == ()
    assert {medium.modality for medium in reply.media} == set(MEDIA)
    with Pillow.open(io.BytesIO(reply.images[0].data)) as picture:
        assert picture.format == "PNG"
    samples_T, rate_hz = decode_sound(reply.audios[0].data)
    assert len(samples_T) > 0
    assert np.isfinite(samples_T).all()
    assert rate_hz > 0
    assert decode_film(reply.videos[0].data).shape[-1] == 3
    assert {event.modality for event in seen if isinstance(event, MediaStarted)} == set(MEDIA)
    assert {event.steps for event in seen if isinstance(event, MediaProgress)} == {3}
    assert isinstance(seen[-1], Finished)
    assert {"draw_out", "draw", "film", "play"} <= {timing.node for timing in reply.timings}


def test_the_same_seed_makes_the_same_and_another_one_another(client: Client) -> None:
    def drawn(seed: int) -> bytes:
        reply = client.generate("x", outputs=["image"], media_parameters=FEW_STEPS, max_tokens=12, seed=seed)
        return reply.images[0].data

    assert drawn(1) == drawn(1) != drawn(2)


def test_what_was_made_can_be_handed_back(client: Client) -> None:
    first = client.generate("x", outputs=["image"], media_parameters=FEW_STEPS, max_tokens=12, seed=1)
    alone = client.generate([*first.images, "what is this?"], max_tokens=4)
    assert alone.usage.media_tokens > 0
    turn = Message("assistant", ["here it is", *first.images])
    followed = client.generate("what is this?", history=[Message("user", "x"), turn], max_tokens=4)
    assert followed.usage.media_tokens == alone.usage.media_tokens


def test_parameters_that_a_generator_does_not_take_are_told_by_the_medium_or_the_request(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="steps"):
        client.generate("x", media_parameters={"image": MediaParameters(steps=0)})
    with pytest.raises(InvalidRequest, match="makes no 'smell'"):
        client.generate("x", outputs=["smell"])
    huge = {"image": MediaParameters(width=4096, height=4096, steps=1000)}
    reply = client.generate("x", outputs=["image"], media_parameters=huge, max_tokens=12)
    assert reply.images == []
    failed = next(failure for failure in reply.failures if failure.modality == "image")
    assert isinstance(failed.error, InvalidRequest)


def test_the_command_line_writes_what_was_made(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(pictures.encoded(0))
    ran = cluster.anyplex(
        "ask", "--address", cluster.address, "--json", "--max-tokens", "48", "--seed", "1", "--steps", "3", "--gif",
        "-i", str(tmp_path / "picture.png"), "anything", "--want", "video,image", "--out", str(tmp_path / "made"),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    media = {medium["modality"]: medium for medium in json.loads(ran.stdout)["media"]}
    assert Path(media["image"]["path"]).read_bytes()[:4] == b"\x89PNG"
    assert Path(media["video"]["path"]).name == "video-1.gif"
    assert decode_film(Path(media["video"]["path"]).read_bytes()).shape[0] > 0


def test_an_evaluation_of_media_runs_to_its_end(cluster: Cluster, tmp_path: Path) -> None:
    suite = tmp_path / "small.yaml"
    rows = "".join(
        f"  {kind}: {{source: making, split: test, kind: {kind}, count: 2, cell: [{', '.join(kind.split('_to_'))}]}}\n"
        for kind in ("text_to_text", "text_to_image", "image_to_video", "image_to_audio")
    )
    suite.write_text(f"suite: small\nsampling: {{max_tokens: 40}}\nrows:\n{rows}")
    out = tmp_path / "results"
    ran = cluster.anyplex("eval", str(suite), "--address", cluster.address, "--out", str(out), "--json")
    assert ran.returncode == 0, ran.stderr
    (result,) = json.loads(ran.stdout)
    assert {row["count"] for row in result["rows"].values()} == {2}
    assert not any(row["errors"] for row in result["rows"].values())


def test_pictures_go_in_while_media_come_out(client: Client) -> None:
    reply = client.generate(
        [Image(pictures.encoded(1)), "x"], outputs=["audio"], media_parameters=FEW_STEPS, max_tokens=12, seed=1
    )
    assert reply.usage.media_tokens > 0
    assert len(reply.audios) == 1
