"""The micro-batcher: what waits is run together, and nobody pays for another's failure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from anyplex.v1 import component_pb2
from graph.errors import Exhausted, Internal, InvalidRequest
from services.artifacts import ArtifactStore
from services.runtime.batching import Batcher, Ticket, admitted
from services.runtime.component import Component, ComponentContext, Load
from services.runtime.telemetry import Metrics, request_id_var
from services.runtime.tensors import TensorStore


class Nothing(Component):
    """A component that does nothing, for its load."""

    async def start(self) -> None: ...

    def card(self) -> component_pb2.ContractCard:
        return component_pb2.ContractCard()

    def add_to(self, server: grpc.aio.Server) -> str:
        return ""


@pytest.fixture
def component(tmp_path: Path) -> Component:
    context = ComponentContext("c", "encoder", "x", ArtifactStore(tmp_path), (), TensorStore(), queue_limit=3)
    return Nothing(context)


class Gate:
    """A model that records its batches and waits to be let on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.entered = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int | BaseException]:
        self.batches.append(list(items))
        self.entered.set()
        self.open.wait(10)
        return [InvalidRequest(f"{item} is odd") if item % 2 else item * 10 for item in items]


async def entered(gate: Gate) -> None:
    await asyncio.to_thread(gate.entered.wait, 10)


def ticket() -> Ticket:
    return Ticket(Load(waiting=1))


async def test_what_waits_forms_the_next_batch() -> None:
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, 4)
    first = asyncio.create_task(batcher.submit(ticket(), [0]))
    await entered(gate)
    rest = [asyncio.create_task(batcher.submit(ticket(), [2 * n, 2 * n + 20])) for n in range(1, 4)]
    await asyncio.sleep(0)
    gate.open.set()
    assert await first == [0]
    assert await asyncio.gather(*rest) == [[20, 220], [40, 240], [60, 260]]
    assert gate.batches == [[0], [2, 22, 4, 24], [6, 26]]
    batcher.close()


async def test_a_bad_item_fails_its_own_request_alone() -> None:
    gate = Gate()
    gate.open.set()
    batcher: Batcher[int, int] = Batcher(gate, 8)
    good, bad = await asyncio.gather(
        batcher.submit(ticket(), [2, 4]), batcher.submit(ticket(), [6, 7]), return_exceptions=True
    )
    assert good == [20, 40]
    assert isinstance(bad, InvalidRequest)
    assert await batcher.submit(ticket(), []) == []
    batcher.close()


async def test_a_batch_that_raises_fails_all_of_it_and_the_next_goes_on() -> None:
    failures = [RuntimeError("broken"), None]

    def run(items: Sequence[int]) -> list[int | BaseException]:
        if (failure := failures.pop(0)) is not None:
            raise failure
        return list(items)

    batcher: Batcher[int, int] = Batcher(run, 8)
    outcomes = await asyncio.gather(
        batcher.submit(ticket(), [1]), batcher.submit(ticket(), [2]), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [RuntimeError, RuntimeError]
    assert await batcher.submit(ticket(), [3]) == [3]
    batcher.close()


async def test_too_few_results_are_our_fault() -> None:
    batcher: Batcher[int, int] = Batcher(lambda _: [], 8)
    with pytest.raises(Internal, match="0 results for 2 items"):
        await batcher.submit(ticket(), [1, 2])
    batcher.close()


async def test_a_cancelled_request_leaves_the_queue() -> None:
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, 1)
    first = asyncio.create_task(batcher.submit(ticket(), [0]))
    await entered(gate)
    gone = asyncio.create_task(batcher.submit(ticket(), [2, 4]))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    gate.open.set()
    await first
    assert await batcher.submit(ticket(), [6]) == [60]
    assert gate.batches == [[0], [6]]
    batcher.close()


def test_the_load_follows_a_request(component: Component) -> None:
    with admitted(component) as place:
        assert (component.load.waiting, component.load.running) == (1, 0)
        place.begin()
        place.begin()
        assert (component.load.waiting, component.load.running) == (0, 1)
    assert component.load == Load(finished=1)
    with pytest.raises(InvalidRequest), admitted(component):
        raise InvalidRequest("no")

    def cancelled() -> None:
        with admitted(component) as mine:
            mine.begin()
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        cancelled()
    assert component.load == Load(finished=1, failed=1)


def test_past_the_limit_nobody_is_admitted(component: Component) -> None:
    with admitted(component), admitted(component), admitted(component), pytest.raises(Exhausted), admitted(component):
        pass
    assert component.load == Load(finished=3)


async def test_times_of_a_request_are_observed(component: Component) -> None:
    registry = CollectorRegistry()
    component.metrics = Metrics("c", "encoder", registry)
    batcher: Batcher[int, int] = Batcher(lambda items: list(items), 2)
    with admitted(component) as place:
        await batcher.submit(place, [1, 2, 3])
    with pytest.raises(InvalidRequest), admitted(component):
        raise InvalidRequest("no")
    batcher.close()
    labels = {"component": "c", "kind": "encoder"}
    for name in ("request_queue_time", "time_to_first_token", "e2e_request_latency"):
        assert registry.get_sample_value(f"anyplex:{name}_seconds_count", labels) == 1, name


async def test_batches_carry_the_id_of_no_request() -> None:
    seen: list[str] = []

    class Watched(Ticket):
        def begin(self) -> None:
            seen.append(request_id_var.get())
            super().begin()

    batcher: Batcher[int, int] = Batcher(lambda items: list(items), 1)
    token = request_id_var.set("the first")
    await batcher.submit(Watched(Load(waiting=1)), [1])
    request_id_var.reset(token)
    batcher.close()
    assert seen == [""]
