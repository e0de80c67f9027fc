"""Which types of component there are, built in and from third parties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points

from graph.errors import AlreadyExists, FailedPrecondition
from graph.spec import Option

ENTRY_POINT_GROUP = "anyplex.components"

Catalog = Mapping[tuple[str, str], "ComponentType"]


@dataclass(frozen=True)
class OptionInfo:
    """One option of a type.

    Attributes:
        form: ``whole`` (int), ``number``, ``flag`` (bool) or ``text``.
        summary: What it is for.
        minimum: Least value of a number.
        choices: Words allowed; empty: any.
    """

    form: str
    summary: str
    minimum: float = float("-inf")
    choices: tuple[str, ...] = ()

    def complaint(self, value: Option) -> str:
        """Return what was expected when the value does not fit; empty when it does."""
        if self.form == "flag":
            return "" if isinstance(value, bool) else "true or false"
        if self.form == "text":
            if not isinstance(value, str):
                return "text"
            return "" if not self.choices or value in self.choices else f"one of {', '.join(self.choices)}"
        wanted: type | tuple[type, ...] = int if self.form == "whole" else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            return "a whole number" if self.form == "whole" else "a number"
        if isinstance(value, int | float) and not value >= self.minimum:
            return f"at least {self.minimum:g}"
        return ""


WIDTHS = {
    "input_width": OptionInfo("whole", "Width of the vectors it reads; states what its weights must have.", 1),
    "output_width": OptionInfo("whole", "Width of the vectors it gives; states what its weights must have.", 1),
}


@dataclass(frozen=True)
class ComponentType:
    """A type of component that nodes can name.

    Attributes:
        kind: Kind of its nodes.
        type: Its name.
        factory: ``module:attribute`` of ``factory(context) -> Component``, imported where it runs.
        summary: One line for people.
        modalities: What it reads (encoder, input projector) or makes (generator); empty: any.
        options: Options that nodes may set, beside the widths that all may state.
        imports: Heavy modules it loads, for cold-start estimates.
    """

    kind: str
    type: str
    factory: str
    summary: str = ""
    modalities: tuple[str, ...] = ()
    options: Mapping[str, OptionInfo] = field(default_factory=dict)
    imports: tuple[str, ...] = ()

    def all_options(self) -> dict[str, OptionInfo]:
        """Return its options, with the widths that every type may state."""
        return {**WIDTHS, **self.options}


PICTURE_ENCODER = "services.encoders.picture_reader:component"
SOUND_ENCODER = "services.encoders.sound_reader:component"
INPUT_PROJECTOR = "services.input_projectors.service:InputProjectorComponent"
BACKBONE = "services.backbone.service:BackboneComponent"
OUTPUT_PROJECTOR = "services.output_projectors.service:OutputProjectorComponent"
GENERATOR = "services.generators.service:GeneratorComponent"

BUILT_IN = (
    ComponentType(
        "encoder", "clip_vision", PICTURE_ENCODER, "CLIP vision transformer: pictures, and videos frame by frame.",
        modalities=("image", "video"), imports=("torch", "transformers"),
    ),
    ComponentType(
        "encoder", "whisper", SOUND_ENCODER, "Whisper's audio encoder: sounds and speech, window by window.",
        modalities=("audio",), imports=("torch", "whisper"),
    ),
    ComponentType("input_projector", "linear", INPUT_PROJECTOR, "One linear layer.", imports=("torch",)),
    ComponentType("input_projector", "mlp", INPUT_PROJECTOR, "Linear, GELU, linear.", imports=("torch",)),
    ComponentType(
        "input_projector", "query_transformer", INPUT_PROJECTOR,
        "Learned queries that attend to the features, and to the prompt if wanted.", imports=("torch",),
    ),
    ComponentType(
        "backbone", "decoder", BACKBONE, "Any decoder of transformers.", imports=("torch", "transformers"),
    ),
    ComponentType(
        "output_projector", "transformer", OUTPUT_PROJECTOR,
        "Linear, encoder and decoder with learned queries, linear (NExT-GPT).", imports=("torch",),
    ),
    ComponentType(
        "output_projector", "mlp_transformer", OUTPUT_PROJECTOR,
        "Linear, GELU, linear, encoder and decoder with a learned prompt (MiniGPT-5).", imports=("torch",),
    ),
    ComponentType(
        "output_projector", "mlp", OUTPUT_PROJECTOR,
        "Linear, GELU, normalization, linear: one vector (CoDi-2).", imports=("torch",),
    ),
    ComponentType(
        "generator", "stable_diffusion", GENERATOR, "Stable Diffusion: pictures from vectors to attend to.",
        modalities=("image",), imports=("torch", "diffusers"),
    ),
    ComponentType(
        "generator", "unclip", GENERATOR, "Stable unCLIP: pictures from a picture embedding.",
        modalities=("image",), imports=("torch", "diffusers"),
    ),
    ComponentType(
        "generator", "text_to_video", GENERATOR, "Text-to-video diffusion: films from vectors to attend to.",
        modalities=("video",), imports=("torch", "diffusers"),
    ),
    ComponentType(
        "generator", "audioldm", GENERATOR, "AudioLDM: sounds from one vector.",
        modalities=("audio",), imports=("torch", "diffusers", "transformers"),
    ),
    ComponentType(
        "generator", "diffusers", GENERATOR, "Any other pipeline of diffusers, one request at a time.",
        modalities=("image", "video", "audio"), imports=("torch", "diffusers", "transformers"),
    ),
)  # fmt: skip


def catalog_of(types: Iterable[ComponentType]) -> dict[tuple[str, str], ComponentType]:
    """Index types by kind and type.

    Raises:
        AlreadyExists: Two have the same kind and type.
    """
    catalog: dict[tuple[str, str], ComponentType] = {}
    for item in types:
        key = (item.kind, item.type)
        if key in catalog:
            raise AlreadyExists(f"two components call themselves {item.kind} {item.type!r}; one must be renamed")
        catalog[key] = item
    return catalog


def load_catalog() -> dict[tuple[str, str], ComponentType]:
    """Return the built-in types and those that installed packages offer.

    Raises:
        AlreadyExists: Two types have the same name.
        FailedPrecondition: An entry point of a third party is broken.
    """
    return catalog_of([*BUILT_IN, *_third_party()])


def _third_party() -> list[ComponentType]:
    found = []
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            item = point.load()
        except (ImportError, AttributeError) as error:
            raise FailedPrecondition(f"entry point {point.name!r} of {ENTRY_POINT_GROUP} cannot be loaded") from error
        if not isinstance(item, ComponentType):
            raise FailedPrecondition(
                f"entry point {point.name!r} of {ENTRY_POINT_GROUP}: a graph.catalog.ComponentType expected, "
                f"found {type(item).__name__}"
            )
        found.append(item)
    return found
