"""What is derived from a system, a profile and a version set: plans of systems and of components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graph.canary import Canary
from graph.messages import Sampling, VersionRef
from graph.profile import ComponentSettings
from graph.spec import TEXT, Limits, Option

Place = tuple[str, str]
"""A component, and a version that it holds."""


@dataclass(frozen=True)
class NodePlan:
    """A node, resolved.

    Attributes:
        name: Its path.
        kind: What it does.
        type: Which type of component does it.
        component: Id of the component that serves it.
        factory: ``module:attribute`` of that component's factory.
        modality: What it reads or makes; empty for none.
        inputs: Nodes it reads from, in order.
        frames: Frames an encoder takes of a video; 0 means its default.
        signal: Output projector: modality whose blocks it reads.
        signals: Backbone: modality to tokens in one block.
        slot: Slot of its weights.
        adapter_slot: Slot of its LoRA adapter; empty for none.
        architecture: Hash of the architecture of its weights; empty when unknown.
        options: Options handed to the component.
        settings: How the component runs.
        line: Line in the system file.
    """

    name: str
    kind: str
    type: str
    component: str
    factory: str
    modality: str = ""
    inputs: tuple[str, ...] = ()
    frames: int = 0
    signal: str = ""
    signals: Mapping[str, int] = field(default_factory=dict)
    slot: str = ""
    adapter_slot: str = ""
    architecture: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    settings: ComponentSettings = field(default_factory=ComponentSettings)
    line: int = 0

    def version(self, versions: Mapping[str, str]) -> VersionRef:
        """Return what it runs under a version set."""
        return VersionRef(versions.get(self.slot, ""), versions.get(self.adapter_slot, "") if self.adapter_slot else "")


@dataclass(frozen=True)
class OutputRoute:
    """How one modality is made: projectors that read the signal block, and the generator they feed."""

    projectors: tuple[NodePlan, ...]
    generator: NodePlan


@dataclass(frozen=True)
class SystemPlan:
    """A validated, compiled system.

    Attributes:
        system: Its name.
        source: Where it was published.
        profile: Name of the profile it was compiled for.
        nodes: Its nodes; every node stands after those it reads from.
        versions: The version set it was compiled with: slot to version.
        encoders: Modality to the encoders that read it.
        projectors: Input projectors; every one stands after those it reads from.
        backbone: The one backbone.
        outputs: Modality to how it is made.
        default_sampling: What absent sampling numbers mean.
        limits: What it accepts.
        file: Path of the system file.
        generation: Number of the version set; grows with every change of what is live.
        canary: Who gets it while it stands beside the live one; None: only those who name its versions.
    """

    system: str
    source: str
    profile: str
    nodes: tuple[NodePlan, ...]
    versions: Mapping[str, str]
    encoders: Mapping[str, tuple[NodePlan, ...]]
    projectors: tuple[NodePlan, ...]
    backbone: NodePlan
    outputs: Mapping[str, OutputRoute]
    default_sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    file: str = ""
    generation: int = 1
    canary: Canary | None = None

    @property
    def takes(self) -> tuple[str, ...]:
        """Modalities it takes, text first."""
        return (TEXT, *self.encoders)

    @property
    def makes(self) -> tuple[str, ...]:
        """Modalities it makes, text first."""
        return (TEXT, *self.outputs)

    def node(self, name: str) -> NodePlan:
        """Return a node by name; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def places(self, versions: Mapping[str, str] | None = None) -> frozenset[Place]:
        """Return which versions must be held where for a set; its own unless one is given."""
        held = self.versions if versions is None else versions
        refs = ((node.component, node.version(held)) for node in self.nodes)
        return frozenset((component, v) for component, ref in refs for v in (ref.version, ref.adapter) if v)

    def slots(self) -> tuple[str, ...]:
        """Return the slots of its version sets, weights and adapters."""
        named = (slot for node in self.nodes for slot in (node.slot, node.adapter_slot) if slot)
        return tuple(dict.fromkeys(named))


@dataclass(frozen=True)
class ComponentPlan:
    """One component, whoever uses it.

    Attributes:
        id: Its name, the same wherever architecture and settings are the same.
        kind: Kind of its nodes.
        type: Its type.
        factory: ``module:attribute`` of ``factory(context) -> Component``.
        architecture: Hash of the architecture; empty when unknown.
        versions: Weights it must hold.
        adapters: LoRA adapters it must hold.
        options: Options handed to the factory.
        settings: How it runs.
        uses: System and node, for everyone who uses it.
    """

    id: str
    kind: str
    type: str
    factory: str
    architecture: str = ""
    versions: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    settings: ComponentSettings = field(default_factory=ComponentSettings)
    uses: tuple[tuple[str, str], ...] = ()
