"""Checks the contract cards of neighbours against each other, before a request can reach them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graph.plan import NodePlan, SystemPlan
from graph.problems import Problem, Report


@dataclass(frozen=True)
class ConditioningInfo:
    """Shape of one tensor that a generator is conditioned by; 0: any size. ``optional``: it may be left out."""

    sizes: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class CardInfo:
    """What a component says about itself; fields as in ``ContractCard`` of ``component.proto``.

    ``max_frames`` is the most units of a video that ``token_counts`` tells; 0: no bound known.
    """

    kind: str
    type: str
    modalities: tuple[str, ...] = ()
    input_width: int = 0
    output_width: int = 0
    tokens_per_item: int = 0
    max_tokens_per_item: int = 0
    max_frames: int = 0
    reads_prompt: bool = False
    cross_memory: bool = False
    signals: Mapping[str, int] = field(default_factory=dict)
    tokenizer_fingerprint: str = ""
    context_tokens: int = 0
    adds_input_embeddings: bool = False
    conditioning: Mapping[str, ConditioningInfo] = field(default_factory=dict)


def check_cards(plan: SystemPlan, cards: Mapping[str, CardInfo]) -> list[Problem]:
    """Return every disagreement between the nodes of a system, and between a node and its component.

    Args:
        plan: The system.
        cards: Card by component id; a component without one is a problem.
    """
    report = Report(plan.file or plan.system)
    for node in plan.nodes:
        card = cards.get(node.component)
        if card is None:
            report.add(node.line, f"node {node.name!r}: component {node.component} has shown no card")
            continue
        _check_own(node, card, report)
        for name in node.inputs:
            source = plan.node(name)
            given = cards.get(source.component)
            if given is not None:
                _check_pair(source, given, node, card, report)
        if node.kind == "generator":
            _check_conditioning(plan, cards, node, card, report)
    return report.in_order()


def _check_own(node: NodePlan, card: CardInfo, report: Report) -> None:
    what = f"node {node.name!r}"
    if (card.kind, card.type) != (node.kind, node.type):
        report.add(node.line, f"{what}: {card.kind} {card.type!r} answers, {node.kind} {node.type!r} expected")
    if node.modality and card.modalities and node.modality not in card.modalities:
        report.add(node.line, f"{what}: modality {node.modality}, its component has {', '.join(card.modalities)}")
    for key, has in (("input_width", card.input_width), ("output_width", card.output_width)):
        stated = node.options.get(key)
        if stated is not None and has and stated != has:
            report.add(node.line, f"{what}: {key} {stated} is stated, its component has {has}")
    for modality, tokens in node.signals.items():
        if card.signals.get(modality, 0) != tokens:
            found = card.signals.get(modality, 0)
            report.add(node.line, f"{what}: signals.{modality} {tokens} is stated, its component has {found}")
    if node.signal and card.signals and node.signal not in card.signals:
        read = ", ".join(card.signals)
        report.add(node.line, f"{what}: signal {node.signal}, its component reads {read}")
    if card.max_frames and node.frames > card.max_frames:
        report.add(node.line, f"{what}: {node.frames} frames, its component takes {card.max_frames} of a video")
    if card.context_tokens and card.tokens_per_item > card.context_tokens:
        report.add(node.line, f"{what}: {card.tokens_per_item} tokens an item, context {card.context_tokens}")


def _check_pair(source: NodePlan, given: CardInfo, node: NodePlan, card: CardInfo, report: Report) -> None:
    def disagree(left: str, right: str) -> None:
        message = f"{source.name}.{left} does not fit {node.name}.{right}"
        report.add(node.line, message, "one of the two must be swapped")

    # What generators read has names and shapes of its own, and several projectors may give it.
    by_name = bool(given.conditioning and card.conditioning)
    if not by_name and given.output_width and card.input_width and given.output_width != card.input_width:
        disagree(f"output_width {given.output_width}", f"input_width {card.input_width}")
    if node.kind == "backbone" and given.cross_memory != card.cross_memory:
        disagree(f"cross_memory {_word(given.cross_memory)}", f"cross_memory {_word(card.cross_memory)}")
    if node.kind == "backbone" and card.context_tokens and given.tokens_per_item >= card.context_tokens:
        disagree(f"tokens_per_item {given.tokens_per_item}", f"context_tokens {card.context_tokens}")
    if card.max_frames and source.frames > card.max_frames:
        disagree(f"frames {source.frames}", f"max_frames {card.max_frames}")
    reads_some = node.kind == "input_projector" and source.kind == "encoder" and bool(card.modalities)
    if reads_some and source.modality not in card.modalities:
        disagree(f"modality {source.modality}", f"modalities {', '.join(card.modalities)}")
    if node.kind == "output_projector":
        emitted, read = given.signals.get(node.signal, 0), card.signals.get(node.signal, 0)
        if emitted != read:
            disagree(f"signals.{node.signal} {emitted}", f"signals.{node.signal} {read}")
        if card.adds_input_embeddings and not given.adds_input_embeddings:
            disagree("adds_input_embeddings no", "adds_input_embeddings yes")


def _check_conditioning(
    plan: SystemPlan, cards: Mapping[str, CardInfo], node: NodePlan, card: CardInfo, report: Report
) -> None:
    """Hold what all projectors of a generator give against what it reads."""
    sources = [(name, cards.get(plan.node(name).component)) for name in node.inputs]
    given = {
        key: (name, info) for name, source in sources if source is not None for key, info in source.conditioning.items()
    }
    if not card.conditioning or any(source is None or not source.conditioning for _, source in sources):
        return
    swap = "one of the two must be swapped"
    missing = [key for key, wanted in card.conditioning.items() if key not in given and not wanted.optional]
    if missing:
        found = ", ".join(given)
        report.add(node.line, f"node {node.name!r}: reads {', '.join(missing)}, its projectors give {found}", swap)
        return
    for key, (name, info) in given.items():
        wanted = card.conditioning.get(key)
        if wanted is None:
            read = ", ".join(card.conditioning)
            report.add(node.line, f"node {name!r}: gives {key}, {node.name} reads {read}", swap)
        elif not _fits(info.sizes, wanted.sizes):
            shapes = f"{name}.{key} {list(info.sizes)} does not fit {node.name}.{key} {list(wanted.sizes)}"
            report.add(node.line, shapes, swap)


def _fits(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(given) == len(wanted) and all(
        one == other or 0 in (one, other) for one, other in zip(given, wanted, strict=True)
    )


def _word(value: bool) -> str:
    return "yes" if value else "no"
