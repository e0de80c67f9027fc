"""What users write: a system as a graph of nodes, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graph.errors import NotFound, SpecError
from graph.fields import Fields
from graph.messages import Sampling
from graph.problems import Problem, Report, did_you_mean
from graph.yaml_lines import Located, Scalar, read_yaml, shown

KINDS = ("encoder", "input_projector", "backbone", "output_projector", "generator", "tool", "system", "agent")
TEXT = "text"
SYSTEMS_DIR = Path(__file__).parent / "systems"
MAX_NODES = 128
SYSTEM_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
NODE_PATTERN = r"[a-z][a-z0-9_]{0,63}"
MODALITY_PATTERN = r"[a-z][a-z0-9_]{0,31}"
SYSTEM_KEYS = ("system", "source", "nodes", "default_sampling", "inputs", "outputs", "limits")
NODE_KEYS = (
    "kind", "type", "modality", "from", "frames", "lora", "signals", "signal", "weights", "options",
)  # fmt: skip
SAMPLING_KEYS = (
    "max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "presence_penalty", "frequency_penalty",
    "stop",
)  # fmt: skip
LIMIT_KEYS = ("messages", "parts", "text_chars", "media", "media_bytes", "deadline_s", "media_deadline_s", "late_media")

Option = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True)
class NodeSpec:
    """A place in a system.

    Attributes:
        name: Its name in the system.
        kind: What it does.
        type: Which component does it.
        modality: What it reads (encoder) or makes (generator); empty for none.
        inputs: Names of the nodes it reads from, in order (``from`` in the file).
        frames: Frames an encoder takes of a video; 0 means the encoder's default.
        lora: Whether it has a slot for a LoRA adapter (``<slot>/lora``).
        signals: Backbone: modality to number of signal tokens in one block.
        signal: Output projector: modality whose signal blocks it reads.
        weights: Slot whose weights it runs; empty means its own name.
        options: Options of its type, checked against the catalog.
        lines: Line of every key (``options.<name>`` for options); its own under the empty key.
    """

    name: str
    kind: str
    type: str
    modality: str = ""
    inputs: tuple[str, ...] = ()
    frames: int = 0
    lora: bool = False
    signals: Mapping[str, int] = field(default_factory=dict)
    signal: str = ""
    weights: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def slot(self) -> str:
        """Slot of a version set that holds its weights."""
        return self.weights or self.name

    @property
    def adapter_slot(self) -> str:
        """Slot of its LoRA adapter; empty when it has none."""
        return f"{self.slot}/lora" if self.lora else ""

    def line(self, key: str = "") -> int:
        """Return the line of a key, or the node's own."""
        return self.lines.get(key, self.lines.get("", 0))


@dataclass(frozen=True)
class Limits:
    """What a system accepts.

    Attributes:
        messages: Most messages in one request.
        parts: Most parts in one request, all messages together.
        text_chars: Most characters of text in one request.
        media: Most media made for one answer.
        media_bytes: Largest of them.
        deadline_s: Longest time a request may take.
        media_deadline_s: Longest time one medium may take to make; 0 means no bound of its own.
        late_media: Media are made when the answer's text has ended, not while it is decoded: to measure the difference.
    """

    messages: int = 128
    parts: int = 256
    text_chars: int = 200_000
    media: int = 16
    media_bytes: int = 64 * 2**20
    deadline_s: float = 300.0
    media_deadline_s: float = 0.0
    late_media: bool = False


@dataclass(frozen=True)
class SystemSpec:
    """One multimodal LLM, as written.

    Attributes:
        name: Its name.
        nodes: Nodes by name, in the order of the file.
        source: Where it was published.
        default_sampling: What absent sampling numbers of a request mean.
        inputs: Modalities it promises to take, text included; empty: whatever the graph takes.
        outputs: Modalities it promises to make, text included; empty: whatever the graph makes.
        limits: What it accepts.
        file: Path it was read from.
        lines: Line of every top-level key.
    """

    name: str
    nodes: Mapping[str, NodeSpec]
    source: str = ""
    default_sampling: Sampling = field(default_factory=Sampling)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    file: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def slots(self) -> tuple[str, ...]:
        """Return the slots of its version sets: weights and adapters, in the order of the nodes."""
        named = (slot for node in self.nodes.values() for slot in (node.slot, node.adapter_slot) if slot)
        return tuple(dict.fromkeys(named))

    def line(self, key: str = "") -> int:
        """Return the line of a top-level key, or the file's first."""
        return self.lines.get(key, self.lines.get("", 0))


def read_system(source: Located, report: Report) -> SystemSpec:
    """Read a system from a located mapping; what is wrong goes to ``report``, the rest is still read."""
    top = Fields(source, report, "system file", SYSTEM_KEYS)
    name = top.text(
        "system", required=True, pattern=SYSTEM_PATTERN, form="a name of lower-case letters, digits, '.', '-', '_'"
    )
    return SystemSpec(
        name=name,
        nodes=_read_nodes(top),
        source=top.text("source"),
        default_sampling=_read_sampling(top.section("default_sampling", SAMPLING_KEYS)),
        inputs=_read_modalities(top, "inputs"),
        outputs=_read_modalities(top, "outputs"),
        limits=_read_limits(top.section("limits", LIMIT_KEYS)),
        file=report.file,
        lines=top.lines(),
    )


def _read_modalities(top: Fields, key: str) -> tuple[str, ...]:
    return tuple(name for name, _ in top.names(key))


def _read_nodes(top: Fields) -> dict[str, NodeSpec]:
    if "nodes" not in top:
        top.report.add(top.own_line, f"{top.what}: key 'nodes' is missing", "add 'nodes:' with one line a node")
        return {}
    section = top.section("nodes")
    if isinstance(top.values["nodes"].value, dict) and not section.values:
        top.report.add(section.own_line, "system file: nodes: at least a backbone expected, found none")
    if len(section.values) > MAX_NODES:
        top.report.add(section.own_line, f"{len(section.values)} nodes, at most {MAX_NODES} expected")
    return {name: _read_node(name, located, top.report) for name, located in section.values.items()}


def _read_node(name: str, located: Located, report: Report) -> NodeSpec:
    node = Fields(located, report, f"node {shown(name)}", NODE_KEYS)
    probe = Fields(Located({"name": Located(name, located.line)}, located.line), report, f"node {shown(name)}")
    probe.text("name", pattern=NODE_PATTERN, form="a name of lower-case letters, digits and '_'")
    kind = node.choice("kind", KINDS, required=True)
    options = node.section("options")
    inputs = node.names("from")
    lines = node.lines() | {f"options.{key}": options.line(key) for key in options.values}
    return NodeSpec(
        name=name,
        kind=kind,
        type=node.text("type", required=True),
        modality=node.text("modality", pattern=MODALITY_PATTERN, form="the name of a modality"),
        inputs=tuple(source for source, _ in inputs),
        frames=node.integer("frames", 0, 1, 4096),
        lora=node.flag("lora"),
        signals=_read_counts(node.section("signals")),
        signal=node.text("signal", pattern=MODALITY_PATTERN, form="the name of a modality"),
        weights=node.text("weights"),
        options={key: options.plain(key) for key in options.values},
        lines=lines | {f"from.{source}": line for source, line in inputs},
    )


def _read_counts(section: Fields) -> dict[str, int]:
    return {key: count for key in section.values if (count := section.integer(key, 0, 1, 1024))}


def _read_sampling(section: Fields) -> Sampling:
    return Sampling(
        max_tokens=section.integer("max_tokens", Sampling.max_tokens, 1, 1_000_000),
        temperature=section.number("temperature", Sampling.temperature, 0.0, 2.0),
        top_p=section.number("top_p", Sampling.top_p, 1e-6, 1.0),
        top_k=section.integer("top_k", Sampling.top_k, 0, 1_000_000),
        repetition_penalty=section.number("repetition_penalty", Sampling.repetition_penalty, 1e-6, 10.0),
        presence_penalty=section.number("presence_penalty", Sampling.presence_penalty, -2.0, 2.0),
        frequency_penalty=section.number("frequency_penalty", Sampling.frequency_penalty, -2.0, 2.0),
        stop=tuple(word for word, _ in section.names("stop")),
    )


def _read_limits(section: Fields) -> Limits:
    return Limits(
        messages=section.integer("messages", Limits.messages, 1, 10_000),
        parts=section.integer("parts", Limits.parts, 1, 10_000),
        text_chars=section.integer("text_chars", Limits.text_chars, 1, 10_000_000),
        media=section.integer("media", Limits.media, 1, 1024),
        media_bytes=section.integer("media_bytes", Limits.media_bytes, 1, 2**40),
        deadline_s=section.number("deadline_s", Limits.deadline_s, 0.001, 86_400.0),
        media_deadline_s=section.number("media_deadline_s", Limits.media_deadline_s, 0.0, 86_400.0),
        late_media=section.flag("late_media"),
    )


def read_system_file(path: Path, report: Report) -> SystemSpec | None:
    """Read a system file as far as it can be read; None when it holds no mapping at all."""
    located = read_yaml(path, report)
    return None if located is None else read_system(located, report)


def raise_problems(problems: Sequence[Problem], what: str) -> None:
    """Raise one error that carries all problems; return when there are none.

    Raises:
        SpecError: There is at least one problem.
    """
    if problems:
        lines = [str(problem) for problem in problems]
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise SpecError(f"{what} has {count}: {'; '.join(lines[:3])}", problems=lines)


def system_files(directory: Path = SYSTEMS_DIR) -> dict[str, Path]:
    """Return the system files of a directory by the name of the file, which is the system's."""
    return {path.stem: path for path in sorted(directory.glob("*.yaml"))}


def find_system(name: str, directory: Path = SYSTEMS_DIR) -> Path:
    """Return the file of a system: a path that exists, or the name of one that comes along.

    Raises:
        NotFound: There is neither.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    known = system_files(directory)
    if name not in known:
        raise NotFound(f"no system {shown(name)} ({did_you_mean(name, known)})")
    return known[name]
