"""Answers that a gateway gives which knows what is expected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from anyplex import Medium
from anyplex.v1 import gateway_pb2, types_pb2
from services.evaluation.sources import draw_cases
from services.evaluation.suite import EvaluationCase, SuiteSpec
from services.playroom import studio
from services.playroom.making_cases import draw_making_cases
from services.playroom.scenes import Split
from tests.fakes import gateway as fake


def _key(turns: Iterable[Iterable[str | bytes]]) -> tuple[tuple[str | bytes, ...], ...]:
    return tuple(tuple(parts) for parts in turns)


def _asked(case: EvaluationCase) -> tuple[tuple[str | bytes, ...], ...]:
    return _key((part.read() if isinstance(part, Medium) else part for part in parts) for _, parts in case.turns)


def _said(message: types_pb2.Message) -> list[str | bytes]:
    return [part.text if part.WhichOneof("content") == "text" else part.media.inline for part in message.parts]


class Oracle:
    """Answers every case of a suite right, except those whose number is in ``wrong``.

    Args:
        limit: Most cases of a row that it knows.
    """

    def __init__(self, suite: SuiteSpec, wrong: set[int], limit: int | None = None) -> None:
        cases = [case for name, row in suite.rows.items() for case in draw_cases(name, row, limit)]
        self.expected = {_asked(case): "mauve" if case.number in wrong else case.expected for case in cases}
        self.made: dict[tuple[tuple[str | bytes, ...], ...], tuple[studio.Medium, ...]] = {}
        for name, row in suite.rows.items():
            if row.source == "making":
                truths = draw_making_cases(Split(row.split), row.kind, row.count, row.seed)
                for case, truth in zip(draw_cases(name, row, limit), truths, strict=False):
                    self.made[_asked(case)] = () if case.number in wrong else truth.truth()[1]
        self.asked = 0

    async def __call__(
        self, request: gateway_pb2.GenerateRequest, context: fake.Context
    ) -> AsyncIterator[gateway_pb2.Event]:
        self.asked += 1
        yield fake.accepted(request)
        key = _key(_said(message) for message in request.messages)
        yield fake.text(self.expected[key])
        for index, medium in enumerate(self.made.get(key, ())):
            for event in fake.medium(index, medium.modality, medium.mime_type, medium.data):
                yield event
        yield fake.finished()
