"""Row 31: load on one component brings replicas of that one; and a component that sleeps wakes for a request."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image as PillowImage

from anyplex import Client, Image
from tests.cluster import Cluster
from tests.fault.traffic import Traffic
from tests.pictures import picture
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster

LOADERS = 24
GUARD_S = 240.0


def heavy_picture() -> bytes:
    """A picture that is small to send and slow to decode: work for the encoder, and for nobody else."""
    blocks = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(blocks).resize((2400, 2400), PillowImage.Resampling.NEAREST).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


class Counts(threading.Thread):
    """How many replicas every component has had, in order."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.series: dict[str, list[int]] = {component: [] for component in cluster.state.components}
        self._ending = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ending.wait(0.1):
            replicas = self.cluster.state.replicas
            for component, series in self.series.items():
                count = sum(replica.component == component for replica in replicas)
                if not series or series[-1] != count:
                    series.append(count)

    def end(self) -> None:
        self._ending.set()
        self.join(timeout=10)


def asleep(cluster: Cluster) -> bool:
    return not cluster.replicas(cluster.component("llava-1.5.see_in"))


def test_row_31_load_on_the_encoder_brings_a_second_one_of_it_alone(cluster: Cluster, client: Client) -> None:
    encoder = cluster.component("next-gpt.see")
    wait_until(lambda: asleep(cluster), 60)
    counts = Counts(cluster)
    with Traffic(cluster, 2, {"system": "next-gpt", "max_tokens": 4}) as steady:
        begun_s = time.monotonic()
        with Traffic(
            cluster, LOADERS, {"system": "next-gpt", "max_tokens": 1, "parts": [Image(heavy_picture())]}
        ) as load:
            wait_until(lambda: len(cluster.replicas(encoder)) == 2, GUARD_S)
            up_s = time.monotonic() - begun_s
            doubled_s = time.monotonic()
            wait_until(lambda: load.finished_since(doubled_s) >= LOADERS, GUARD_S)
            both = [cluster.stats(replica.address).finished for replica in cluster.replicas(encoder)]
        calm_s = time.monotonic()
        wait_until(lambda: len(cluster.replicas(encoder)) == 1, GUARD_S)
        down_s = time.monotonic() - calm_s
        alone_s = time.monotonic()
        wait_until(lambda: steady.finished_since(alone_s) >= 10, 60)
    counts.end()
    lost = len(load.errors()) + len(steady.errors())
    reversals = max(0, len(counts.series[encoder]) - 2)
    print(f"figure: row 31: second encoder after {up_s:.1f} s, gone again after {down_s:.1f} s, {reversals} reversal, "
          f"{lost} of {len(load.outcomes) + len(steady.outcomes)} requests lost, "
          f"both had work {both}, replicas {counts.series}")  # fmt: skip
    assert [str(outcome.error) for outcome in [*load.errors(), *steady.errors()]] == []
    assert counts.series[encoder] == [1, 2, 1]
    assert all(count > 0 for count in both)
    for component, series in counts.series.items():
        if component != encoder:
            assert len(series) == 1, (component, series)


def test_a_component_that_sleeps_wakes_for_a_request(cluster: Cluster, client: Client) -> None:
    sleeper = cluster.component("llava-1.5.see_in")
    wait_until(lambda: asleep(cluster), 60)
    assert next(system for system in client.systems() if system.name == "llava-1.5").ready
    begun_s = time.monotonic()
    reply = client.generate(["what is this?", picture()], system="llava-1.5", max_tokens=4, deadline_s=120.0)
    woken_s = time.monotonic() - begun_s
    assert reply.usage.media_tokens > 0
    assert len(cluster.replicas(sleeper)) <= 1
    begun_s = time.monotonic()
    client.generate(["what is this?", picture()], system="llava-1.5", max_tokens=4)
    awake_s = time.monotonic() - begun_s
    begun_s = time.monotonic()
    wait_until(lambda: asleep(cluster), 60)
    slept_s = time.monotonic() - begun_s
    print(f"figure: a sleeping projector answered after {woken_s:.1f} s, awake {awake_s * 1000:.0f} ms, "
          f"asleep again {slept_s:.1f} s later")  # fmt: skip


def test_words_do_not_wake_what_only_pictures_need(cluster: Cluster, client: Client) -> None:
    wait_until(lambda: asleep(cluster), 60)
    client.generate("hello", system="llava-1.5", max_tokens=2)
    assert asleep(cluster)
