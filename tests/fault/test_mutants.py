"""Row 1: ten thousand messages with something wrong in their bytes."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from anyplex.v1 import gateway_pb2
from tests.cluster import Cluster, pid_at
from tests.fault.bad_requests import with_source
from tests.fault.wire import Refusal, processes, send
from tests.pictures import encoded

pytestmark = pytest.mark.cluster

MUTANTS = 10_000
CLEAN = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.UNIMPLEMENTED,
}  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change, drop or double some bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed))
        match rng.randrange(4):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                del changed[at : at + rng.randrange(1, 8)]
            case _:
                changed[at:at] = changed[at : at + rng.randrange(1, 8)]
        if not changed:
            changed = bytearray(b"\x00")
    return bytes(changed)


def test_row_1_mutated_messages(cluster: Cluster, channel: grpc.Channel, base: gateway_pb2.GenerateRequest) -> None:
    # Answers to those that are still good messages are kept short, so that time goes into reading, not into models.
    request = with_source(base, "inline", encoded(1, 8))
    request.sampling.max_tokens = 1
    request.sampling.n = 1
    sources = [request.SerializeToString(), with_source(base, "features", b"").SerializeToString()]
    pids = processes(cluster)
    pids[cluster.address] = pid_at(cluster.address)

    def one(number: int) -> Refusal:
        rng = random.Random(number)
        return send(channel, mutated(rng.choice(sources), rng), timeout_s=30.0)

    with ThreadPoolExecutor(16) as pool:
        refusals = list(pool.map(one, range(MUTANTS)))
    codes = Counter(refusal.code.name for refusal in refusals)
    print(f"figure: row 1: {MUTANTS} mutated messages: {dict(codes)}, 0 restarts")
    assert {refusal.code for refusal in refusals} <= CLEAN, [
        refusal.message for refusal in refusals if refusal.code not in CLEAN
    ][:5]
    assert {address: pid_at(address) for address in pids} == pids
