"""Small files that would become large, and strange ones: what refusing them costs, in time and memory, and how."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from anyplex.v1 import gateway_pb2, types_pb2
from tests.cluster import Cluster, pid_at
from tests.fakes import tiny
from tests.fault.wire import Refusal, send

# Guards against hanging, tenfold; what was measured is printed.
GUARD_MS = 1_000.0
MOST_MIB = 64
TRIES = 3
CUTS = (0.02, 0.2, 0.5, 0.9, 0.99)
DAMAGED = 6


def place_of(modality: str) -> str:
    """Return where `show` puts a medium, as refusals name it."""
    return f"request.messages[0].parts[1].{modality}"


def show(channel: grpc.Channel, modality: str, data: bytes, system: str = tiny.EVERYTHING.stem) -> Refusal:
    """Ask about a medium through the gateway."""
    request = gateway_pb2.GenerateRequest(system=system, sampling=types_pb2.Sampling(max_tokens=2))
    message = request.messages.add(role=types_pb2.ROLE_USER)
    message.parts.add(text="what is this?")
    media = message.parts.add().media
    media.modality, media.inline = modality, data
    return send(channel, request.SerializeToString())


class Peak:
    """How far the memory of a process has risen above what it held when this was made."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        # Sets the highest mark back to what is held now.
        (self._proc / "clear_refs").write_text("5")
        self._before_kib = self._read("VmRSS")

    def grown_mib(self) -> float:
        """Return the highest mark since, above the beginning."""
        return (self._read("VmHWM") - self._before_kib) / 1024

    def _read(self, name: str) -> int:
        lines = (self._proc / "status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


@dataclass
class Costs:
    """What refusals cost: milliseconds (the median of a few tries) by name, memory by process."""

    took_ms: dict[str, float] = field(default_factory=dict)
    grown_mib: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Tell it in one line."""
        return (
            f"{len(self.took_ms)} of {len(self.took_ms)} refused, median {self.middle_ms():.0f} ms, slowest "
            f"{self.slowest_ms():.0f} ms ({self.slowest()}); memory at most {dict(self.grown_mib)} MiB higher"
        )

    def middle_ms(self) -> float:
        """Return the median over the files."""
        return statistics.median(self.took_ms.values())

    def slowest(self) -> str:
        """Return the file that took longest."""
        return max(self.took_ms, key=lambda name: self.took_ms[name])

    def slowest_ms(self) -> float:
        """Return how long it took."""
        return self.took_ms[self.slowest()]

    def most_mib(self) -> int:
        """Return how far the memory of any process rose."""
        return max(self.grown_mib.values())

    def guard(self) -> None:
        """Assert that no file hangs, or fills the memory."""
        assert self.slowest_ms() < GUARD_MS, self.slowest()
        assert self.most_mib() < 2 * MOST_MIB, self.grown_mib  # the benchmark judges; a process may grow beside it


def refuse(
    cluster: Cluster,
    channel: grpc.Channel,
    node: str,
    modality: str,
    bombs: Mapping[str, Callable[[], bytes]],
    system: str = tiny.EVERYTHING.stem,
) -> Costs:
    """Hand in files that must be refused, each a few times, and measure what that costs."""
    addresses = {"the encoder": cluster.address_of(f"{system}.{node}"), "the gateway": cluster.address}
    processes = {process: pid_at(address) for process, address in addresses.items()}
    costs = Costs()
    for name, make in bombs.items():
        data = make()
        peaks = {process: Peak(pid) for process, pid in processes.items()}
        refusals = [show(channel, modality, data, system) for _ in range(TRIES)]
        codes = {refusal.code for refusal in refusals}
        assert codes == {grpc.StatusCode.INVALID_ARGUMENT}, (name, codes, refusals[0].message)
        assert place_of(modality) in refusals[0].fields, name
        costs.took_ms[name] = statistics.median(refusal.took_s for refusal in refusals) * 1000
        for process, peak in peaks.items():
            costs.grown_mib[process] = max(costs.grown_mib[process], round(peak.grown_mib()))
            assert pid_at(addresses[process]) == processes[process], f"{process} died of {name}"
    return costs


def spoiled(name: str, data: bytes, rng: random.Random, head: int = 0) -> dict[str, bytes]:
    """Cut a file short, and change bytes of it; with a head, every other time among so many first bytes alone."""
    found = {f"{name} cut at {share:.0%}": data[: max(1, int(len(data) * share))] for share in CUTS}
    for number in range(DAMAGED):
        damaged = bytearray(data)
        for _ in range(1 + number):
            damaged[rng.randrange(len(damaged) if number % 2 or not head else head)] = rng.randrange(256)
        found[f"{name} damaged {number}"] = bytes(damaged)
    return found


def show_strange(channel: grpc.Channel, modality: str, strange: Mapping[str, bytes]) -> Counter[str]:
    """Hand in strange files: each is answered, or refused with its place named. Return how often each code came."""
    codes: Counter[str] = Counter()
    wrong = []
    for name, data in strange.items():
        refusal = show(channel, modality, data)
        codes[refusal.code.name] += 1
        if refusal.code not in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT):
            wrong.append(f"{name}: {refusal.code.name} {refusal.message}")
        elif refusal.code is grpc.StatusCode.INVALID_ARGUMENT and place_of(modality) not in refusal.fields:
            wrong.append(f"{name}: {refusal.fields} {refusal.message}")
    print(f"figure: row 8: {sum(codes.values())} of {modality}: {dict(codes)}")
    assert wrong == []
    return codes
