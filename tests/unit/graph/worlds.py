"""Systems that the tests of the graph run: all kinds, over a catalog of their own."""

from __future__ import annotations

from graph.catalog import BUILT_IN, ComponentType, OptionInfo, catalog_of
from graph.compile import compile_system
from graph.messages import Media, Message, Part, Request, Role, Sampling
from graph.plan import SystemPlan
from graph.problems import Problem, Report
from graph.profile import Profile
from graph.spec import SystemSpec, read_system
from graph.validate import check_system
from graph.yaml_lines import parse_yaml

FACTORY = "tests.fakes:nothing"
CATALOG = catalog_of(
    [
        *BUILT_IN,
        ComponentType("encoder", "joint", FACTORY),
        ComponentType("input_projector", "audio_only", FACTORY, modalities=("audio",)),
        ComponentType("generator", "diffusion", FACTORY, modalities=("image", "video")),
        ComponentType(
            "generator", "tones", FACTORY, modalities=("audio",),
            options={
                "rate_hz": OptionInfo("whole", "Samples a second.", 1),
                "gain": OptionInfo("number", "Loudness.", 0.0),
                "loop": OptionInfo("flag", "Whether it repeats."),
                "wave": OptionInfo("text", "Form.", choices=("sine", "square")),
            },
        ),
    ]
)  # fmt: skip

FULL = """
system: full
nodes:
  see:      {kind: encoder, modality: image, type: clip_vision}
  watch:    {kind: encoder, modality: video, type: clip_vision, frames: 8, weights: see}
  hear:     {kind: encoder, modality: audio, type: whisper}
  see_in:   {kind: input_projector, type: linear, from: see}
  watch_in: {kind: input_projector, type: linear, from: watch}
  hear_in:  {kind: input_projector, type: linear, from: hear}
  think:    {kind: backbone, type: decoder, from: [see_in, watch_in, hear_in], lora: true,
             signals: {image: 4, audio: 8}}
  draw_out: {kind: output_projector, type: transformer, from: think, signal: image}
  draw:     {kind: generator, modality: image, type: diffusion, from: draw_out}
  play_out: {kind: output_projector, type: transformer, from: think, signal: audio}
  play:     {kind: generator, modality: audio, type: tones, from: play_out}
"""


def read(text: str) -> tuple[SystemSpec, list[Problem]]:
    """Read and check a system from text."""
    report = Report("test.yaml")
    located = parse_yaml(text, report)
    assert located is not None, report.problems
    spec = read_system(located, report)
    return spec, sorted({*report.problems, *check_system(spec, CATALOG)})


def compiled(text: str = FULL, profile: Profile | None = None, **given: dict[str, str]) -> SystemPlan:
    """Compile a system that has no problems."""
    spec, problems = read(text)
    assert not problems, [str(problem) for problem in problems]
    return compile_system(spec, profile or Profile("test"), given.get("versions"), given.get("architectures"), CATALOG)


def said(text: str) -> Part:
    return Part(text=text)


def shown(name: str, modality: str = "image") -> Part:
    return Part(media=Media(modality, data=name.encode()))


def turn(*parts: Part, role: Role = "user") -> Message:
    return Message(role, parts)


def asking(*messages: Message, sampling: Sampling | None = None, **rest: object) -> Request:
    """Make a request; without messages it asks in words alone."""
    return Request(
        "r1", "full", messages or (turn(said("hello")),), {"think": "v1", "see": "v2", "think/lora": "v3"},
        sampling or Sampling(seed=5), **rest,  # type: ignore[arg-type]
    )  # fmt: skip
