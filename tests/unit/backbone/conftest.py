"""What the backbone's tests share: stores, loaded decoders, ways to run jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from graph import messages as m
from services.artifacts import ArtifactStore
from services.backbone.engine import Engine, Job, PromptRun
from services.backbone.loaded import LoadedBackbone
from services.backbone.plain_engine import PlainEngine
from tests.fakes import tiny


@dataclass
class Outcome:
    """What a job gave, gathered by answer."""

    ids: dict[int, list[int]] = field(default_factory=dict)
    text: dict[int, str] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    events: list[m.DecodeEvent] = field(default_factory=list)


def make_job(backbone: LoadedBackbone, *prompt: PromptRun, adapter: str = "", **sampling: object) -> Job:
    return Job(backbone, adapter, prompt, m.Sampling(**sampling), began=lambda: None)  # type: ignore[arg-type]


async def run_job(engine: Engine, job: Job) -> Outcome:
    outcome = Outcome()
    async with aclosing(engine.submit(job)) as events:
        async for event in events:
            outcome.events.append(event)
            if isinstance(event, m.DecodedText | m.SignalBlock):
                outcome.ids.setdefault(event.choice, []).extend(event.token_ids)
            if isinstance(event, m.DecodedText):
                outcome.text[event.choice] = outcome.text.get(event.choice, "") + event.text
            elif isinstance(event, m.DecodeFinished):
                outcome.reasons[event.choice] = event.reason
    return outcome


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


@pytest.fixture
def llama(store: ArtifactStore) -> LoadedBackbone:
    return LoadedBackbone.from_artifact(store.get(tiny.decoder(store)), "float32", "cpu")


@pytest.fixture
def make_engine() -> Iterator[Callable[[int], PlainEngine]]:
    engines: list[PlainEngine] = []

    def make(max_batch: int = 16) -> PlainEngine:
        engines.append(PlainEngine(max_batch, lambda: torch.set_num_threads(1)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
