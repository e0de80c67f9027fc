"""Checks a request before any model runs; everything that is wrong is told at once, each with its field."""

from __future__ import annotations

import re
from collections.abc import Callable

from graph.errors import InvalidRequest, Violation
from graph.messages import Media, MediaParameters, Message, Request, Sampling
from graph.plan import SystemPlan
from graph.spec import TEXT
from graph.understanding import media_place
from graph.yaml_lines import shown

MAX_ID_CHARS = 128
MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 256
MAX_REGIONS = 64
MAX_LABEL_CHARS = 256
MAX_HASH_CHARS = 128
MAX_SEED = 2**64 - 1
MAX_N = 16
# Told of one request at most; a flood of wrong fields must not become a flood of text.
MAX_VIOLATIONS = 20
ROLES = ("system", "user", "assistant")
MIME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}/[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
MODALITY_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}")
UNPRINTABLE = re.compile("[\x00\ud800-\udfff]")

Complain = Callable[[str, str], None]


def check_request(request: Request, plan: SystemPlan, idempotency_key: str = "", max_tokens: int = 1_000_000) -> None:
    """Check everything about a request that can be checked without looking into its media.

    Args:
        request: The request, its absent numbers filled in.
        plan: The system it is for.
        idempotency_key: Its key; empty means none.
        max_tokens: Most tokens that may be asked for (the backbone's context).

    Raises:
        InvalidRequest: Something is wrong; ``violations`` lists all of it (the first 20).
    """
    found: list[Violation] = []

    def complain(field: str, description: str) -> None:
        if len(found) < MAX_VIOLATIONS:
            found.append(Violation(field, description))

    _check_messages(request.messages, plan, complain)
    check_sampling(request.sampling, complain, max_tokens)
    _check_outputs(request, plan, complain)
    _check_id("request.session_id", request.session_id, complain)
    _check_id("request.idempotency_key", idempotency_key, complain)
    _check_range("request.priority", request.priority, -10, 10, complain)
    raise_violations(found)


def raise_violations(found: list[Violation]) -> None:
    """Raise one error that carries all violations; return when there are none.

    Raises:
        InvalidRequest: There is at least one.
    """
    if found:
        more = "".join(f"; {violation}" for violation in found[1:])
        raise InvalidRequest(found[0].description + more, found[0].field, 0.0, found)


def _check_messages(messages: tuple[Message, ...], plan: SystemPlan, complain: Complain) -> None:
    limits = plan.limits
    if not messages:
        complain("request.messages", "empty, at least one message expected")
        return
    parts = sum(len(message.parts) for message in messages)
    if len(messages) > limits.messages:
        complain("request.messages", f"{len(messages)} messages, at most {limits.messages} expected")
        return
    if parts > limits.parts:
        complain("request.messages", f"{parts} parts in all, at most {limits.parts} expected")
        return
    chars = sum(len(part.text) for message in messages for part in message.parts)
    if chars > limits.text_chars:
        complain("request.messages", f"{chars} characters of text in all, at most {limits.text_chars} expected")
        return
    for index, message in enumerate(messages):
        _check_message(f"request.messages[{index}]", index, message, plan, complain)
    if messages[-1].role != "user":
        role = messages[-1].role
        complain(f"request.messages[{len(messages) - 1}].role", f"{shown(role)}, the last message must be the user's")


def _check_message(field: str, index: int, message: Message, plan: SystemPlan, complain: Complain) -> None:
    if message.role not in ROLES:
        complain(f"{field}.role", f"{shown(message.role)}, one of {', '.join(ROLES)} expected")
    if message.role == "system" and index:
        complain(f"{field}.role", "a system message must be the first one")
    if not message.parts:
        complain(f"{field}.parts", "empty, at least one part expected")
    elif not any(part.media is not None or part.text.strip() for part in message.parts):
        complain(f"{field}.parts", "nothing but empty text, text or a medium expected")
    for number, part in enumerate(message.parts):
        if part.media is None:
            check_text(f"{field}.parts[{number}].text", part.text, complain)
        else:
            if part.text:
                complain(f"{field}.parts[{number}]", "text and a medium, exactly one of them expected")
            named = MODALITY_PATTERN.fullmatch(part.media.modality)
            _check_media(media_place(index, number, named[0] if named else ""), part.media, plan, complain)


def check_text(field: str, text: str, complain: Complain) -> None:
    """Check that text has no characters that cannot travel or be tokenized."""
    match = UNPRINTABLE.search(text)
    if match:
        name = "NUL character" if match[0] == "\x00" else f"lone surrogate U+{ord(match[0]):04X}"
        complain(field, f"{name} at character {match.start()}, plain text expected")


def _check_media(field: str, media: Media, plan: SystemPlan, complain: Complain) -> None:
    if not MODALITY_PATTERN.fullmatch(media.modality):
        complain(f"{field}.modality", f"{shown(media.modality)}, the name of a modality expected")
    elif media.modality not in plan.encoders:
        complain(field, f"{plan.system} does not read {media.modality}; it reads {', '.join(plan.takes)}")
    sources = (media.data is not None) + bool(media.handle) + (media.features is not None)
    if sources != 1:
        complain(field, f"{sources} of data, handle and features are set, exactly one expected")
    elif media.data is not None and not media.data:
        complain(field, "0 bytes, an encoded file expected")
    if media.mime_type and not MIME_PATTERN.fullmatch(media.mime_type):
        complain(f"{field}.mime_type", f"{shown(media.mime_type)}, a media type like image/png expected")
    if len(media.handle) > MAX_ID_CHARS or len(media.content_hash) > MAX_HASH_CHARS:
        complain(field, f"handle or content_hash longer than {MAX_ID_CHARS} characters")
    else:
        check_text(f"{field}.handle", media.handle, complain)
        check_text(f"{field}.content_hash", media.content_hash, complain)
    if len(media.regions) > MAX_REGIONS:
        complain(f"{field}.regions", f"{len(media.regions)} regions, at most {MAX_REGIONS} expected")
        return
    for index, region in enumerate(media.regions):
        place = f"{field}.regions[{index}]"
        corners = (region.x1, region.y1, region.x2, region.y2)
        if not all(0.0 <= value <= 1.0 for value in corners) or region.x1 > region.x2 or region.y1 > region.y2:
            complain(place, f"corners {corners}, x1 ≤ x2 and y1 ≤ y2 from 0 to 1 expected")
        if len(region.label) > MAX_LABEL_CHARS:
            complain(f"{place}.label", f"{len(region.label)} characters, at most {MAX_LABEL_CHARS} expected")
        check_text(f"{place}.label", region.label[:MAX_LABEL_CHARS], complain)


def check_sampling(sampling: Sampling, complain: Complain, max_tokens: int = 1_000_000) -> None:
    """Check how text is to be sampled; ranges are those that ``types.proto`` states."""
    field = "request.sampling"
    _check_range(f"{field}.max_tokens", sampling.max_tokens, 1, max_tokens, complain)
    _check_range(f"{field}.temperature", sampling.temperature, 0.0, 2.0, complain)
    _check_range(f"{field}.top_p", sampling.top_p, 0.0, 1.0, complain, above=True)
    _check_range(f"{field}.top_k", sampling.top_k, 0, 1_000_000, complain)
    _check_range(f"{field}.repetition_penalty", sampling.repetition_penalty, 0.0, 10.0, complain, above=True)
    _check_range(f"{field}.presence_penalty", sampling.presence_penalty, -2.0, 2.0, complain)
    _check_range(f"{field}.frequency_penalty", sampling.frequency_penalty, -2.0, 2.0, complain)
    _check_range(f"{field}.seed", sampling.seed, 0, MAX_SEED, complain)
    _check_range(f"{field}.n", sampling.n, 1, MAX_N, complain)
    if sampling.logprobs is not None:
        _check_range(f"{field}.logprobs", sampling.logprobs, 0, 20, complain)
    if len(sampling.stop) > MAX_STOP_STRINGS:
        complain(f"{field}.stop", f"{len(sampling.stop)} strings, at most {MAX_STOP_STRINGS} expected")
        return
    for index, stop in enumerate(sampling.stop):
        if not 1 <= len(stop) <= MAX_STOP_CHARS:
            complain(f"{field}.stop[{index}]", f"{len(stop)} characters, 1 to {MAX_STOP_CHARS} expected")
        check_text(f"{field}.stop[{index}]", stop[:MAX_STOP_CHARS], complain)


def _check_outputs(request: Request, plan: SystemPlan, complain: Complain) -> None:
    makes = ", ".join(plan.makes)
    if len(request.outputs) > len(plan.makes):
        complain("request.outputs", f"{len(request.outputs)} modalities, {plan.system} makes {makes}")
        return
    for index, modality in enumerate(request.outputs):
        if modality not in plan.makes:
            complain(f"request.outputs[{index}]", f"{plan.system} makes no {shown(modality)}; it makes {makes}")
        elif modality in request.outputs[:index]:
            complain(f"request.outputs[{index}]", f"{shown(modality)} comes twice")
    for modality, parameters in list(request.media_parameters.items())[:MAX_VIOLATIONS]:
        field = f"request.media_parameters[{shown(modality)}]"
        if modality not in plan.makes or modality == TEXT:
            complain(field, f"{plan.system} makes no such medium; it makes {makes}")
        _check_parameters(field, parameters, complain)


def _check_parameters(field: str, parameters: MediaParameters, complain: Complain) -> None:
    for name, value, least, most in (
        ("width", parameters.width, 8, 4096),
        ("height", parameters.height, 8, 4096),
        ("steps", parameters.steps, 1, 1000),
        ("guidance_scale", parameters.guidance_scale, 0.0, 100.0),
        ("frames", parameters.frames, 1, 1024),
        ("preview_every_steps", parameters.preview_every_steps, 0, 1000),
    ):
        if value is not None:
            _check_range(f"{field}.{name}", value, least, most, complain)
    if parameters.seconds is not None:
        _check_range(f"{field}.seconds", parameters.seconds, 0.0, 600.0, complain, above=True)
    if parameters.mime_type and not MIME_PATTERN.fullmatch(parameters.mime_type):
        complain(f"{field}.mime_type", f"{shown(parameters.mime_type)}, a media type like image/gif expected")


def _check_id(field: str, word: str, complain: Complain) -> None:
    if len(word) > MAX_ID_CHARS:
        complain(field, f"{len(word)} characters, at most {MAX_ID_CHARS} expected")
    elif word:
        check_text(field, word, complain)


def _check_range(
    field: str, value: float, least: float, most: float, complain: Complain, *, above: bool = False
) -> None:
    # NaN fails every comparison, so the test is that the value is good, not that it is bad.
    good = least < value <= most if above else least <= value <= most
    if not good:
        bound = "above " if above else "at least "
        span = f"{bound}{_number(least)} and at most {_number(most)}"
        complain(field, f"{_number(value)}, {span} expected")


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else shown(value)
