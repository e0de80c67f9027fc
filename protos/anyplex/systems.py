"""What a gateway says about the systems that run behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anyplex.v1 import gateway_pb2


@dataclass(frozen=True)
class System:
    """One system in a few words; ``default`` marks the one that an empty name means."""

    name: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ready: bool
    versions: Mapping[str, str]
    default: bool = False


@dataclass(frozen=True)
class Node:
    """One node of a system, the component that serves it, and how many replicas that has."""

    name: str
    kind: str
    type: str
    modality: str
    reads_from: tuple[str, ...]
    component: str
    replicas: int


@dataclass(frozen=True)
class Limits:
    """What the gateway accepts."""

    inline_media_bytes: int
    upload_bytes: int
    messages: int
    parts: int
    deadline_s: float


@dataclass(frozen=True)
class SystemDescription:
    """One system with its nodes, in the order they can run."""

    system: System
    nodes: tuple[Node, ...]
    limits: Limits


def decode_systems(response: gateway_pb2.ListSystemsResponse) -> list[System]:
    """Return the systems of a list."""
    return [_system(item, response.default_system) for item in response.systems]


def decode_description(response: gateway_pb2.DescribeSystemResponse) -> SystemDescription:
    """Return the description of a system."""
    nodes = tuple(
        Node(
            item.name,
            item.kind,
            item.type,
            item.modality,
            tuple(getattr(item, "from")),  # a keyword in Python
            item.component,
            item.replicas,
        )
        for item in response.nodes
    )
    limits = response.limits
    return SystemDescription(
        _system(response.summary),
        nodes,
        Limits(limits.inline_media_bytes, limits.upload_bytes, limits.messages, limits.parts, limits.deadline_s),
    )


def _system(item: gateway_pb2.SystemSummary, default: str = "") -> System:
    return System(
        item.name,
        item.source,
        tuple(item.inputs),
        tuple(item.outputs),
        item.ready,
        dict(item.versions.slots),
        bool(default) and item.name == default,
    )
