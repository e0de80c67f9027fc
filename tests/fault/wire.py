"""Any bytes at all, sent to any method, and how that ended."""

from __future__ import annotations

import time
from typing import Any

import grpc

from anyplex.v1 import error_pb2
from services.runtime.status import DETAILS_KEY
from tests import statuses
from tests.cluster import Cluster, pid_at

GENERATE = "/anyplex.v1.GatewayService/Generate"
SENDABLE = [("grpc.max_send_message_length", -1)]


class Refusal:
    """How a call ended."""

    def __init__(self, error: Any, took_s: float) -> None:
        self.code = error.code() if error is not None else grpc.StatusCode.OK
        self.message: str = (error.details() or "") if error is not None else ""
        self.took_s = took_s
        self.fields: list[str] = []
        for key, value in (error.trailing_metadata() or ()) if error is not None else ():
            if key == DETAILS_KEY:
                detail = error_pb2.ErrorDetail()
                error_pb2.RpcStatus.FromString(value).details[0].Unpack(detail)
                self.fields = [violation.field for violation in detail.field_violations]
        statuses.note(self.code, self.message)


def send(channel: grpc.Channel, data: bytes, path: str = GENERATE, timeout_s: float = 60.0, **rest: Any) -> Refusal:
    """Send any bytes at all; read the answer to its end."""
    begun_s = time.perf_counter()
    try:
        for _ in channel.unary_stream(path, bytes, bytes)(data, timeout=timeout_s, **rest):
            pass
    except grpc.RpcError as error:
        return Refusal(error, time.perf_counter() - begun_s)
    return Refusal(None, time.perf_counter() - begun_s)


def finished(cluster: Cluster) -> dict[str, int]:
    """How many calls every replica has answered; those that it refused are not among them.

    The component that may sleep comes and goes, and is left out.
    """
    counts: dict[str, int] = {}
    sleeper = cluster.component("llava-1.5.see_in")
    for replica, stats in cluster.all_stats():
        if replica.component != sleeper:
            assert stats is not None, f"{replica.component} at {replica.address} does not answer"
            counts[f"{replica.component} at {replica.address}"] = stats.finished + stats.running
    return counts


def answered_since(cluster: Cluster, before: dict[str, int]) -> dict[str, int]:
    """How many calls every replica has answered since, of those that answered any; others may have left meanwhile."""
    grown = {replica: count - before.get(replica, 0) for replica, count in finished(cluster).items()}
    return {replica: count for replica, count in grown.items() if count}


def processes(cluster: Cluster, *but: str) -> dict[str, int]:
    """Return who serves; the component that may sleep comes and goes, and is left out."""
    left_out = {*but, cluster.component("llava-1.5.see_in")}
    return {r.address: pid_at(r.address) for r in cluster.state.replicas if r.component not in left_out}
