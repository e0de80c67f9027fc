"""From Python arguments to a ``GenerateRequest``; shared by the sync and the async client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from google.protobuf.message import Message as ProtobufMessage

from anyplex.errors import InvalidRequest
from anyplex.media import MadeMedium, Medium, PillowImage, Region, Upload
from anyplex.systems import Limits
from anyplex.v1 import gateway_pb2, media_pb2, types_pb2

INLINE_MEDIA_BYTES = 4 << 20  # the gateway's cap unless its profile says otherwise; media beyond it are uploaded first
ASSURED_INLINE_BYTES = 256 << 10  # no profile may set a smaller cap: below it nobody has to ask for it

Role = Literal["system", "user", "assistant"]
PartLike = str | Medium | Upload | MadeMedium
Parts = PartLike | Iterable[PartLike]

_ROLES: dict[str, types_pb2.Role] = {
    "system": types_pb2.ROLE_SYSTEM,
    "user": types_pb2.ROLE_USER,
    "assistant": types_pb2.ROLE_ASSISTANT,
}
_SAMPLING = (
    "max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "presence_penalty", "frequency_penalty",
    "seed", "n", "logprobs",
)  # fmt: skip


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: ordered parts by one speaker."""

    role: Role
    parts: Parts


@dataclass(frozen=True)
class MediaParameters:
    """Parameters of a medium to be made; None means the generator's default."""

    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    frames: int | None = None
    seconds: float | None = None
    mime_type: str | None = None
    preview_every_steps: int | None = None


class RequestOptions(TypedDict, total=False):
    """What a request may say besides its parts; what is left out is the system's default.

    Attributes:
        system: Name of the system; empty means the gateway's default.
        instructions: What the model is told before the conversation (a turn of role "system").
        history: Earlier turns, oldest first.
        outputs: Modalities the answer must contain besides what the model decides.
        media_parameters: Parameters of media to be made, by modality.
        session_id: Turns with the same id belong together: same versions and replicas where possible.
        priority: -10 (background) to 10 (urgent).
        idempotency_key: A second request with the same key gets the first one's events.
        pinned_versions: Versions to use instead of the live ones, by slot.
        seed: Seed of everything random; same request, same seed, same answer.
        max_tokens: Most tokens to produce.
        temperature: 0 is greedy; up to 2.
        top_p: Nucleus mass, above 0 and up to 1.
        top_k: Only the k likeliest tokens; 0 means all.
        repetition_penalty: Above 0 and up to 10; 1 is off.
        presence_penalty: -2 to 2.
        frequency_penalty: -2 to 2.
        stop: Strings that end the answer.
        n: Number of answers, 1 to 16.
        logprobs: Alternatives to report with each token, 0 to 20.
    """

    system: str
    instructions: str
    history: Sequence[Message]
    outputs: Sequence[str]
    media_parameters: Mapping[str, MediaParameters]
    session_id: str
    priority: int
    idempotency_key: str
    pinned_versions: Mapping[str, str]
    seed: int | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    stop: Sequence[str]
    n: int | None
    logprobs: int | None


@dataclass
class Carried:
    """How the media of a request or turn travel: inside it, or uploaded before it.

    Attributes:
        inlined: Media that were written into it, in order.
        uploads: Media that still have to be uploaded: fill in their handles, then send it.
    """

    inlined: list[tuple[types_pb2.Media, Medium]] = field(default_factory=list)
    uploads: list[tuple[types_pb2.Media, Medium]] = field(default_factory=list)

    @property
    def inline_bytes(self) -> int:
        """Size of the media inside it, all together."""
        return sum(len(media.inline) for media, _ in self.inlined)

    @property
    def has_to_ask(self) -> bool:
        """Whether a gateway with small caps could refuse it."""
        return self.inline_bytes > ASSURED_INLINE_BYTES or bool(self.uploads)

    def fit(self, limits: Limits) -> None:
        """Leave only so much inside as a gateway takes; the rest is to be uploaded.

        Raises:
            InvalidRequest: A medium is larger than any upload may be.
        """
        cap_bytes = limits.inline_media_bytes or INLINE_MEDIA_BYTES
        kept, inlined = 0, self.inlined
        self.inlined = []
        for media, medium in inlined:
            if kept + len(media.inline) <= cap_bytes:
                kept += len(media.inline)
                self.inlined.append((media, medium))
            else:
                media.ClearField("inline")
                self.uploads.append((media, medium))
        for _, medium in self.uploads:
            if 0 < limits.upload_bytes < medium.size_bytes:
                raise InvalidRequest(f"{medium.name}: {medium.size_bytes} bytes, at most {limits.upload_bytes} allowed")


@dataclass(frozen=True)
class Draft:
    """A request, and how its media travel."""

    request: gateway_pb2.GenerateRequest
    carried: Carried


def draft_request(parts: Parts | None, options: RequestOptions) -> Draft:
    """Build a request.

    Args:
        parts: The user's turn; None for the opening of a conversation.
        options: Everything else.

    Raises:
        InvalidRequest: A part or option is of a wrong type or cannot be carried.
        TypeError: There is no such option.
    """
    if unknown := sorted(set(options) - set(RequestOptions.__annotations__)):
        known = ", ".join(sorted(RequestOptions.__annotations__))
        raise TypeError(f"no such option: {', '.join(unknown)}; there are {known}")
    request = gateway_pb2.GenerateRequest()
    writer = _MessageWriter()
    if instructions := options.get("instructions"):
        writer.write(Message("system", instructions), request.messages.add(), "instructions")
    for index, message in enumerate(options.get("history", ())):
        writer.write(message, request.messages.add(), f"history[{index}]")
    if parts is not None:
        writer.write(Message("user", parts), request.messages.add(), "parts")
    _write_options(request, options)
    return Draft(request, writer.carried)


def draft_opening(options: RequestOptions) -> Draft:
    """Build the opening of a conversation, which says nothing yet.

    Raises:
        InvalidRequest: The history ends with a turn of the user's, which would be answered at once.
    """
    history = options.get("history", ())
    if history and history[-1].role == "user":
        raise InvalidRequest(
            "history: ends with the user's turn, expected the assistant's; say the user's turn instead"
        )
    return draft_request(None, options)


def draft_message(parts: Parts) -> tuple[types_pb2.Message, Carried]:
    """Build the next turn of a conversation, and say how its media travel."""
    writer = _MessageWriter()
    message = types_pb2.Message()
    writer.write(Message("user", parts), message, "parts")
    return message, writer.carried


def draft_upload(medium: Medium, keep_s: float) -> media_pb2.UploadRequest:
    """Return what opens the upload of a medium; its bytes follow."""
    return media_pb2.UploadRequest(
        open=media_pb2.UploadOpen(
            modality=medium.modality, mime_type=medium.mime_type, size_bytes=medium.size_bytes, keep_s=keep_s
        )
    )


def decode_upload(medium: Medium, response: media_pb2.UploadResponse) -> Upload:
    """Return what lies on the server now."""
    return Upload(
        response.handle,
        medium.modality,
        medium.mime_type,
        response.size_bytes,
        response.sha256,
        response.expires_in_s,
        medium.regions,
    )


class _MessageWriter:
    """Writes turns, and keeps count of what travels inline."""

    def __init__(self) -> None:
        self.carried = Carried()
        self._inline_bytes = 0

    def write(self, message: Message, into: types_pb2.Message, where: str) -> None:
        """Write one turn."""
        if message.role not in _ROLES:
            raise InvalidRequest(f"{where}: role {message.role!r}, expected 'system', 'user' or 'assistant'")
        into.role = _ROLES[message.role]
        for index, part in enumerate(as_parts(message.parts, where)):
            place = f"{where}[{index}]"
            if isinstance(part, str):
                _assign(into.parts.add(), "text", part, place)
            else:
                self._write_medium(part, into.parts.add().media, place)

    def _write_medium(self, part: Medium | Upload, media: types_pb2.Media, where: str) -> None:
        _assign(media, "modality", part.modality, where)
        _assign(media, "mime_type", part.mime_type, where)
        for region in part.regions:
            media.regions.append(_region(region))
        if isinstance(part, Upload):
            _assign(media, "handle", part.handle, where)
        elif self._inline_bytes + part.size_bytes <= INLINE_MEDIA_BYTES:
            media.inline = part.read()
            self._inline_bytes += part.size_bytes
            self.carried.inlined.append((media, part))
        else:
            self.carried.uploads.append((media, part))


def as_parts(parts: Parts, where: str) -> list[str | Medium | Upload]:
    """Return one part or several as a list, made media as parts like any other."""
    if isinstance(parts, (str, Medium, Upload, MadeMedium)):
        parts = [parts]
    if isinstance(parts, (bytes, PillowImage)) or not isinstance(parts, Iterable):
        raise InvalidRequest(f"{where}: {type(parts).__name__}, expected text, media, or a list of them")
    found: list[str | Medium | Upload] = []
    for index, part in enumerate(parts):
        if isinstance(part, MadeMedium):
            found.append(part.as_part())
        elif isinstance(part, (str, Medium, Upload)):
            found.append(part)
        else:
            raise InvalidRequest(
                f"{where}[{index}]: {type(part).__name__}, expected text, Image, Audio, Video, Medium or Upload"
            )
    return found


def _write_options(request: gateway_pb2.GenerateRequest, options: RequestOptions) -> None:
    for name in ("system", "session_id", "priority", "idempotency_key"):
        if (value := options.get(name)) is not None:
            _assign(request, name, value, name)
    for name in _SAMPLING:
        if (value := options.get(name)) is not None:
            _assign(request.sampling, name, value, name)
    _extend(request.sampling.stop, options.get("stop", ()), "stop")
    _extend(request.outputs, options.get("outputs", ()), "outputs")
    for slot, version in options.get("pinned_versions", {}).items():
        try:
            request.pinned_versions[slot] = version
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"pinned_versions[{slot!r}]: {error}") from error
    for modality, parameters in options.get("media_parameters", {}).items():
        for name in MediaParameters.__annotations__:
            if (value := getattr(parameters, name)) is not None:
                _assign(request.media_parameters[modality], name, value, f"media_parameters[{modality!r}].{name}")


def _extend(field: MutableSequence[str], values: Sequence[str], where: str) -> None:
    if isinstance(values, str):
        raise InvalidRequest(f"{where}: a string, expected a list of strings")
    for index, value in enumerate(values):
        try:
            field.append(value)
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"{where}[{index}]: {error}") from error


def _assign(message: ProtobufMessage, name: str, value: object, where: str) -> None:
    """Set a field; what it cannot hold (wrong type, out of range, lone surrogates) is the caller's error."""
    try:
        setattr(message, name, value)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{where}: {error}") from error


def _region(region: Region) -> types_pb2.Region:
    return types_pb2.Region(x1=region.x1, y1=region.y1, x2=region.x2, y2=region.y2, label=region.label)
