"""A small system that makes, behind the gateway's own server: the client, the command line and an evaluation use it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import numpy as np
import pytest
from PIL import Image as Pillow

from anyplex import AsyncClient, InvalidRequest, MediaParameters, MediaProgress, Message
from anyplex.v1 import gateway_pb2_grpc, media_pb2_grpc
from graph.profile import GatewaySettings
from services.artifacts import ArtifactStore
from services.cli.main import run as run_command
from services.evaluation.run import Evaluation
from services.evaluation.runner import RunSettings
from services.evaluation.suite import SuiteSpec
from services.gateway.media import MediaStore
from services.gateway.runner import Runner
from services.gateway.service import GatewayFace, MediaFace
from services.playroom.codecs import decode_film, decode_sound
from services.runtime.directory import Entry, Routes, Snapshot
from services.runtime.interceptors import interceptors
from services.runtime.telemetry import Metrics, Tracing
from tests.unit.runtime.test_making_callers import Studio

MEDIA = ("image", "audio", "video")
QUICK = {modality: MediaParameters(steps=2) for modality in MEDIA}


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    studio = Studio(ArtifactStore(tmp_path / "weights"))
    routes = Routes()
    versions = frozenset(studio.versions.values())
    entries = tuple(Entry(name, name, "127.0.0.1:1", versions=versions) for name in studio.components)
    routes.update(Snapshot("epoch", 1, entries, {studio.plan.system: studio.plan}))
    media = MediaStore(2**20, 2**22, 60.0, 600.0)
    metrics, tracing = Metrics("gateway", "gateway"), Tracing("gateway", "")
    async with studio.local() as caller:
        runner = Runner(routes, caller, GatewaySettings(), media, metrics, tracing)
        server = grpc.aio.server(interceptors=interceptors(metrics, tracing, ()))
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(GatewayFace(runner), server)
        media_pb2_grpc.add_MediaServiceServicer_to_server(MediaFace(media), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        yield f"127.0.0.1:{port}"
        await server.stop(0)
    media.close()


async def test_media_come_to_the_client_and_can_be_handed_back(address: str) -> None:
    seen: list[object] = []
    async with AsyncClient(address) as client:
        reply = await client.generate(
            "anything", outputs=MEDIA, media_parameters=QUICK, max_tokens=48, seed=1, on_event=seen.append
        )
        assert reply.failures == ()
        assert {medium.modality for medium in reply.media} == set(MEDIA)
        with Pillow.open(io.BytesIO(reply.images[0].data)) as picture:
            assert picture.format == "PNG"
        samples_T, rate_hz = decode_sound(reply.audios[0].data)
        assert rate_hz > 0
        assert np.isfinite(samples_T).all()
        assert decode_film(reply.videos[0].data).shape[-1] == 3
        assert {event.steps for event in seen if isinstance(event, MediaProgress)} == {2}
        back = await client.generate([*reply.images, "what is this?"], max_tokens=4)
        assert back.usage.media_tokens > 0
        history = [Message("user", "draw"), Message("assistant", ["here it is", *reply.images])]
        followed = await client.generate("what is this?", history=history, max_tokens=4)
        assert followed.usage.media_tokens == back.usage.media_tokens


async def test_what_a_generator_does_not_do_is_the_caller_s_error(address: str) -> None:
    async with AsyncClient(address) as client:
        with pytest.raises(InvalidRequest, match="steps"):
            await client.generate("x", media_parameters={"image": MediaParameters(steps=0)})
        huge = {"image": MediaParameters(width=4096, height=4096, steps=1000)}
        reply = await client.generate("x", outputs=["image"], media_parameters=huge, max_tokens=12)
        assert reply.images == []
        failed = next(failure for failure in reply.failures if failure.modality == "image")
        assert isinstance(failed.error, InvalidRequest)


async def test_the_command_line_writes_what_was_made(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["ask", "anything", "--address", address, "--json", "--max-tokens", "48", "--seed", "1"]
    arguments += ["--steps", "2", "--gif", "--want", "video,image", "--out", str(tmp_path / "made")]
    code = await asyncio.to_thread(run_command, arguments)
    shown = capsys.readouterr()
    assert code == 0, shown.err
    media = {medium["modality"]: Path(medium["path"]) for medium in json.loads(shown.out)["media"]}
    assert media["image"].read_bytes()[:4] == b"\x89PNG"
    assert media["video"].name == "video-1.gif"
    assert len(decode_film(media["video"].read_bytes())) > 0


async def test_an_evaluation_of_media_runs_to_its_end(address: str, tmp_path: Path) -> None:
    rows = {
        kind: {"source": "making", "split": "test", "kind": kind, "count": 2, "cell": kind.split("_to_")}
        for kind in ("text_to_text", "text_to_image", "image_to_audio")
    }
    suite = SuiteSpec.model_validate({"suite": "small", "sampling": {"max_tokens": 8}, "rows": rows})
    evaluation = Evaluation(suite, RunSettings("making", concurrency=4), tmp_path / "results")
    result, folder = await asyncio.to_thread(
        evaluation.run, lambda: AsyncClient(address), {"think": "v1"}, lambda *_: None
    )
    assert [row["errors"] for row in result["rows"].values()] == [0, 0, 0]
    assert (folder / "report.md").exists()
