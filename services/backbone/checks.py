"""What a backbone checks of a request before it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graph import messages as m
from graph.errors import InvalidRequest, Unimplemented
from services.backbone.signals import SignalGate, check_produced
from services.runtime.tensors import check_floats

if TYPE_CHECKING:
    from services.backbone.loaded import LoadedBackbone

MAX_SEGMENTS = 4_096
MAX_ANSWERS = 16
MAX_STOPS = 16
MAX_LOGPROBS = 20


def too_long(what: str, backbone: LoadedBackbone) -> InvalidRequest:
    """Return the error for a prompt that does not fit."""
    most = backbone.context_tokens - 1
    return InvalidRequest(f"{what}, at most {most} expected: the context has {backbone.context_tokens}", "turns")


def check_request(request: m.DecodeRequest) -> None:
    """Check what can be checked without a model.

    Raises:
        InvalidRequest: Something is out of range.
        Unimplemented: Cross-attention memory, or positions of the caller.
    """
    check_sampling(request.sampling)
    if not request.turns:
        raise InvalidRequest("no turns, at least one expected", "turns")
    if sum(len(turn.segments) for turn in request.turns) > MAX_SEGMENTS:
        raise InvalidRequest(f"more than {MAX_SEGMENTS} segments", "turns")
    for index, turn in enumerate(request.turns):
        for place, segment in enumerate(turn.segments):
            where = f"turns[{index}].segments[{place}]"
            if segment.cross_memory is not None:
                raise Unimplemented("this backbone has no cross-attention", f"{where}.cross_memory")
            if segment.position_ids:
                raise Unimplemented("this backbone gives positions itself", f"{where}.position_ids")
            if segment.embeddings is not None:
                check_embeddings(segment.embeddings, f"{where}.embeddings")


def check_embeddings(tensor: m.Tensor, where: str) -> None:
    """Check shape and type of embeddings before they are fetched.

    Raises:
        InvalidRequest: They are wrong.
    """
    check_floats(tensor, where)
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        raise InvalidRequest(f"shape {list(tensor.shape)}, [tokens, width] with at least one token expected", where)


def check_ids(request: m.DecodeRequest, backbone: LoadedBackbone) -> None:
    """Check ids and signals against what the backbone knows.

    Raises:
        InvalidRequest: They are unknown.
    """
    given: list[Sequence[int]] = [request.produced_ids]
    given += [segment.token_ids or () for turn in request.turns for segment in turn.segments]
    for ids in given:
        for token in ids:
            if not 0 <= token < backbone.vocabulary:
                raise InvalidRequest(
                    f"token {token}, 0 to {backbone.vocabulary - 1} expected", "turns.segments.token_ids"
                )
    if backbone.codec.media_id >= 0 and any(backbone.codec.media_id in ids for ids in given):
        raise InvalidRequest("the token that stands for media, embeddings expected there", "turns.segments.token_ids")
    known = sorted(backbone.codec.signal_ids)
    for modality in request.force_signals:
        if modality not in known:
            raise InvalidRequest(f"signal {modality[:64]!r}, one of {known} expected", "force_signals")
    if request.text_only and request.force_signals:
        raise InvalidRequest("text alone and signals that must come exclude each other", "force_signals")
    check_produced(backbone.codec.signal_ids, request.produced_ids)


def check_room(request: m.DecodeRequest, backbone: LoadedBackbone, prompt_tokens: int) -> int:
    """Check that prompt, tokens produced elsewhere and signal blocks that must come fit; return how much does.

    Returns:
        Most tokens of the answer.

    Raises:
        InvalidRequest: They do not fit the context, or the blocks do not fit the answer.
    """
    produced, room = len(request.produced_ids), backbone.context_tokens - prompt_tokens
    gate = SignalGate(backbone.codec.signal_ids, request.force_signals, produced_ids=request.produced_ids)
    owed = len(gate.rest) + gate.owed_tokens
    if room < 1 or room < produced + max(owed, 1):
        signals = f" and {owed} of signal blocks" if owed else ""
        raise too_long(f"prompt of {prompt_tokens + produced} tokens{signals}", backbone)
    most = min(request.sampling.max_tokens, room)
    if owed and most < produced + owed:
        wanted = ", ".join(request.force_signals) or "one begun"
        raise InvalidRequest(
            f"{most}, at least {produced + owed} expected: signal blocks ({wanted}) take that many",
            "sampling.max_tokens",
        )
    return most


def check_sampling(sampling: m.Sampling) -> None:
    """Check sampling parameters; the gateway has done so, other callers may not have.

    Raises:
        InvalidRequest: One is out of range.
    """
    ranges: tuple[tuple[str, float, float, float], ...] = (
        ("max_tokens", sampling.max_tokens, 1, math.inf),
        ("temperature", sampling.temperature, 0, 2),
        ("top_p", sampling.top_p, 0, 1),
        ("top_k", sampling.top_k, 0, math.inf),
        ("repetition_penalty", sampling.repetition_penalty, 0, 10),
        ("presence_penalty", sampling.presence_penalty, -2, 2),
        ("frequency_penalty", sampling.frequency_penalty, -2, 2),
        ("n", sampling.n, 1, MAX_ANSWERS),
        ("logprobs", sampling.logprobs or 0, 0, MAX_LOGPROBS),
        ("stop", len(sampling.stop), 0, MAX_STOPS),
    )
    for name, value, least, most in ranges:
        if not least <= value <= most or (name in {"top_p", "repetition_penalty"} and value == 0):
            raise InvalidRequest(f"{value}, {least:g} to {most:g} expected", f"sampling.{name}")
    if any(not stop for stop in sampling.stop):
        raise InvalidRequest("an empty stop string", "sampling.stop")
