"""Where and how components run: read from a file of its own, so that one topology runs anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graph.errors import NotFound, SpecError
from graph.fields import Fields
from graph.problems import Problem, Report, did_you_mean
from graph.spec import KINDS, SystemSpec, raise_problems
from graph.yaml_lines import Located, read_yaml, shown

PROFILES_DIR = Path(__file__).parent / "profiles"
DTYPES = ("float32", "bfloat16", "float16")
DEVICE_FORM = "cpu, cuda or cuda:N"
DEVICE_PATTERN = r"cpu|cuda(:\d{1,3})?"
ADDRESS_PATTERN = r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}"
TOP_KEYS = ("profile", "defaults", "components", "weights", "host", "port_range", "gateway")
COMPONENT_KEYS = (
    "dtype", "device", "cpus", "threads", "gpus", "replicas", "autoscaling", "queue_limit", "max_batch",
    "address",
)  # fmt: skip
AUTOSCALING_KEYS = ("target_ongoing", "upscale_delay_s", "downscale_delay_s")


@dataclass(frozen=True)
class Replicas:
    """How many replicas a component has; min 0 lets it sleep."""

    min: int = 1
    max: int = 1

    @property
    def fixed(self) -> bool:
        """Whether the number never changes."""
        return self.min == self.max


@dataclass(frozen=True)
class Autoscaling:
    """When replicas come and go.

    Attributes:
        target_ongoing: Requests, queued and running, that one replica should have.
        upscale_delay_s: How long load must be high before a replica comes.
        downscale_delay_s: How long load must be low before one goes.
    """

    target_ongoing: float = 4.0
    upscale_delay_s: float = 2.0
    downscale_delay_s: float = 30.0


@dataclass(frozen=True)
class ComponentSettings:
    """How one component runs.

    Attributes:
        dtype: Element type it computes in.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        cpus: Processors it claims when placed; a fraction is fine.
        threads: Threads of torch and OpenMP.
        gpus: Accelerators it claims when placed; a fraction is fine.
        replicas: How many.
        autoscaling: When that number changes.
        queue_limit: Most requests that wait in one replica.
        max_batch: Most requests in one step.
        address: ``host:port`` of a component started by hand; empty: it is started here.
    """

    dtype: str = "float32"
    device: str = "cpu"
    cpus: float = 0.1
    threads: int = 1
    gpus: float = 0.0
    replicas: Replicas = field(default_factory=Replicas)
    autoscaling: Autoscaling = field(default_factory=Autoscaling)
    queue_limit: int = 64
    max_batch: int = 16
    address: str = ""


@dataclass(frozen=True)
class GatewaySettings:
    """The public edge.

    Attributes:
        host: Address it listens on.
        port: Its port.
        max_concurrent: Most requests that run at once.
        queue_limit: Most requests that wait for one to end.
        default_deadline_s: Deadline of a request that states none.
        inline_media_bytes: Largest medium inside a message; at least 256 KiB: below, clients need not ask.
        upload_bytes: Largest upload.
        upload_total_bytes: All uploads together.
        upload_keep_s: How long an upload is kept unless it says otherwise.
        upload_max_keep_s: Longest time it may ask for.
        default_system: System that an empty name means; empty: the first one started.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    max_concurrent: int = 64
    queue_limit: int = 256
    default_deadline_s: float = 60.0
    inline_media_bytes: int = 4 * 2**20
    upload_bytes: int = 64 * 2**20
    upload_total_bytes: int = 512 * 2**20
    upload_keep_s: float = 3600.0
    upload_max_keep_s: float = 86_400.0
    default_system: str = ""


@dataclass(frozen=True)
class Profile:
    """Where and how components run.

    Attributes:
        name: Its name.
        defaults: Settings of a component that nothing else is said about.
        components: Settings by kind, node, or ``<system>.<node>``; each holds only what its entry states.
        weights: Directory or hub id by system, slot, or ``<system>.<slot>``; what is absent comes from the
            bundled version set.
        host: Address components listen on.
        port_range: First and last port they listen on; (0, 0) means any free one.
        gateway: The public edge.
        file: Path it was read from.
        lines: Line of every entry under ``components`` and ``weights``.
    """

    name: str
    defaults: ComponentSettings = field(default_factory=ComponentSettings)
    components: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port_range: tuple[int, int] = (0, 0)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    file: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def settings_for(self, system: str, node: str, kind: str) -> ComponentSettings:
        """Return the settings of a node: defaults, then kind, node and ``<system>.<node>``, the later winning."""
        stated: dict[str, object] = {}
        for entry in (kind, node, f"{system}.{node}"):
            stated |= self.components.get(entry, {})
        return dataclasses.replace(self.defaults, **stated)  # type: ignore[arg-type]

    def weights_for(self, system: str, slot: str) -> str:
        """Return the directory or hub id of a slot; empty when the version set decides."""
        for entry in (f"{system}.{slot}", slot, system):
            if entry in self.weights:
                return self.weights[entry]
        return ""


def read_profile(source: Located, report: Report) -> Profile:
    """Read a profile from a located mapping; what is wrong goes to ``report``, the rest is still read."""
    top = Fields(source, report, "profile file", TOP_KEYS)
    name = top.text("profile", required=True, pattern=r"[a-z0-9][a-z0-9._-]{0,63}", form="a name")
    components = top.section("components")
    stated = {key: _read_component(components.section(key, COMPONENT_KEYS)) for key in components.values}
    weights = top.section("weights")
    return Profile(
        name=name,
        defaults=dataclasses.replace(
            ComponentSettings(),
            **_read_component(top.section("defaults", COMPONENT_KEYS)),  # type: ignore[arg-type]
        ),
        components=stated,
        weights={key: weights.text(key) for key in weights.values},
        host=top.text("host", "127.0.0.1"),
        port_range=_read_port_range(top),
        gateway=_read_gateway(top),
        file=report.file,
        lines={
            **{f"components.{key}": components.line(key) for key in components.values},
            **{f"weights.{key}": weights.line(key) for key in weights.values},
        },
    )


def _read_component(entry: Fields) -> dict[str, object]:
    """Read only what the entry states, so that entries can be laid over each other."""
    read: dict[str, object] = {
        "dtype": entry.choice("dtype", DTYPES, "float32"),
        "device": entry.text("device", "cpu", pattern=DEVICE_PATTERN, form=DEVICE_FORM),
        "cpus": entry.number("cpus", 0.1, 0.0, 4096.0),
        "threads": entry.integer("threads", 1, 1, 4096),
        "gpus": entry.number("gpus", 0.0, 0.0, 64.0),
        "queue_limit": entry.integer("queue_limit", 64, 1, 1_000_000),
        "max_batch": entry.integer("max_batch", 16, 1, 65_536),
        "address": entry.text("address", pattern=ADDRESS_PATTERN, form="host:port"),
    }
    if "replicas" in entry:
        read["replicas"] = _read_replicas(entry)
    if "autoscaling" in entry:
        scaling = entry.section("autoscaling", AUTOSCALING_KEYS)
        read["autoscaling"] = Autoscaling(
            target_ongoing=scaling.number("target_ongoing", Autoscaling.target_ongoing, 0.01, 1e6),
            upscale_delay_s=scaling.number("upscale_delay_s", Autoscaling.upscale_delay_s, 0.0, 86_400.0),
            downscale_delay_s=scaling.number("downscale_delay_s", Autoscaling.downscale_delay_s, 0.0, 86_400.0),
        )
    return {key: value for key, value in read.items() if key in entry}


def _read_replicas(entry: Fields) -> Replicas:
    value = entry.values["replicas"].value
    if not isinstance(value, dict):
        count = entry.integer("replicas", 1, 1, 10_000)
        return Replicas(count, count)
    bounds = entry.section("replicas", ("min", "max"))
    least = bounds.integer("min", 1, 0, 10_000)
    most = bounds.integer("max", max(1, least), 1, 10_000)
    if most < least:
        entry.report.add(bounds.line("max"), f"{bounds.what}: max {most} is less than min {least}", "swap them?")
        return Replicas(least, least)
    return Replicas(least, most)


def _read_port_range(top: Fields) -> tuple[int, int]:
    if "port_range" not in top:
        return (0, 0)
    value = top.plain("port_range")
    if isinstance(value, tuple) and len(value) == 2:
        first, last = value
        if type(first) is int and type(last) is int and 1 <= first <= last <= 65_535:
            return (first, last)
    top.report.add(
        top.line("port_range"), f"{top.what}: port_range: [first, last] expected, both from 1 to 65535, first ≤ last"
    )
    return (0, 0)


def _read_gateway(top: Fields) -> GatewaySettings:
    names = [item.name for item in dataclasses.fields(GatewaySettings)]
    section = top.section("gateway", names)
    default = GatewaySettings()
    return GatewaySettings(
        host=section.text("host", default.host),
        port=section.integer("port", default.port, 0, 65_535),
        max_concurrent=section.integer("max_concurrent", default.max_concurrent, 1, 1_000_000),
        queue_limit=section.integer("queue_limit", default.queue_limit, 0, 1_000_000),
        default_deadline_s=section.number("default_deadline_s", default.default_deadline_s, 0.001, 86_400.0),
        inline_media_bytes=section.integer("inline_media_bytes", default.inline_media_bytes, 2**18, 2**31 - 1),
        upload_bytes=section.integer("upload_bytes", default.upload_bytes, 1, 2**40),
        upload_total_bytes=section.integer("upload_total_bytes", default.upload_total_bytes, 1, 2**50),
        upload_keep_s=section.number("upload_keep_s", default.upload_keep_s, 1.0, 1e8),
        upload_max_keep_s=section.number("upload_max_keep_s", default.upload_max_keep_s, 1.0, 1e8),
        default_system=section.text("default_system"),
    )


def check_profile(profile: Profile, systems: Iterable[SystemSpec]) -> list[Problem]:
    """Check that every entry names something; ``systems`` are all that are known, not only those to be started.

    Entries that begin with the name of another system are left alone.
    """
    report = Report(profile.file)
    specs = list(systems)
    owners = {spec.name for spec in specs}
    nodes = {name for spec in specs for name in spec.nodes}
    full = {f"{spec.name}.{name}" for spec in specs for name in spec.nodes}
    slots = {slot for spec in specs for slot in spec.slots()}
    full_slots = {f"{spec.name}.{slot}" for spec in specs for slot in spec.slots()}
    for section, entries, known in (
        ("components", profile.components, {*KINDS, *nodes, *full}),
        ("weights", profile.weights, {*owners, *slots, *full_slots}),
    ):
        for entry in entries:
            owner = entry.rpartition(".")[0]
            if entry not in known and (not owner or owner in owners):
                line = profile.lines.get(f"{section}.{entry}", 0)
                hint = did_you_mean(entry, known)
                if not hint.startswith("did"):
                    hint = "if it is of a system of yours, check its file too"
                report.add(line, f"{section}: nothing is called {shown(entry)}", hint)
    return report.in_order()


def load_profile(name: str) -> Profile:
    """Load a profile by path (ending in .yaml) or by the name of one that comes along.

    Raises:
        NotFound: There is neither.
        SpecError: The file has problems; all of them are told.
    """
    path = Path(name)
    if not name.endswith((".yaml", ".yml")):
        known = {path.stem: path for path in sorted(PROFILES_DIR.glob("*.yaml"))}
        if name not in known:
            raise NotFound(f"no profile {shown(name)} ({did_you_mean(name, known)})")
        path = known[name]
    report = Report(str(path))
    profile = read_profile_file(path, report)
    raise_problems(report.in_order(), report.file)
    if profile is None:
        raise SpecError("nothing to read", report.file)
    return profile


def read_profile_file(path: Path, report: Report) -> Profile | None:
    """Read a profile file as far as it can be read; None when it holds nothing at all."""
    located = read_yaml(path, report)
    return None if located is None else read_profile(located, report)
