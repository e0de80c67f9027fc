"""What all nodes of one running request share: how they call, how long they took, who was stopped."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from graph.caller import Call, Caller
from graph.errors import AnyplexError, InvalidRequest, Unavailable
from graph.messages import NodeTiming, Request
from graph.plan import NodePlan, SystemPlan

T = TypeVar("T")
# Fields of a backbone's request, and what they were made from.
_FIELDS = (("turns", "request.messages"), ("sampling", "request.sampling"), ("force_signals", "request.outputs"))


def node_seed(request_seed: int, node: str, block: int = 0) -> int:
    """Return the seed of a node, 63 bits: the same for the same request seed, node and block, anywhere."""
    digest = hashlib.sha256(f"{request_seed}/{node}/{block}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def leading_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error to tell of several that happened at once: the caller's fault first, then the oldest."""
    errors: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseExceptionGroup):
            waiting = [*error.exceptions, *waiting]
        else:
            errors.append(error)
    for wanted in (InvalidRequest, AnyplexError):
        for error in errors:
            if isinstance(error, wanted):
                return error
    return errors[0]


@asynccontextmanager
async def closing(stream: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close a stream on the way out, if it is one that can be closed."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def _placed(error: AnyplexError, node: NodePlan) -> AnyplexError:
    """Put the node's name on an error, unless it names a field of the caller's request already."""
    where = error.where
    if isinstance(error, InvalidRequest) and where and not where.startswith(("request", "node ")):
        field = next((theirs for ours, theirs in _FIELDS if where.startswith(ours)), "")
        if field:
            return InvalidRequest(error.message, field, error.retry_after_s)
        return InvalidRequest(str(error), f"node {node.name}", error.retry_after_s)
    return error.at(f"node {node.name}")


class RunState:
    """One running request.

    Args:
        caller: How components are reached.
        plan: What runs.
        request: For whom.
        deadline_s: ``clock()`` at which it ends.
        clock: Monotonic seconds.
        trace_parent: W3C trace context; empty means none.
    """

    def __init__(
        self,
        caller: Caller,
        plan: SystemPlan,
        request: Request,
        deadline_s: float,
        clock: Callable[[], float],
        trace_parent: str = "",
    ) -> None:
        self.caller = caller
        self.plan = plan
        self.request = request
        self.deadline_s = deadline_s
        self.clock = clock
        self.trace_parent = trace_parent
        self.start_s = clock()
        self.stopped: list[str] = []
        self._times: dict[str, list[float]] = {}

    @contextmanager
    def calling(self, node: NodePlan, deadline_s: float | None = None) -> Iterator[Call]:
        """Time a call of a node, and put the node's name on what it raises."""
        times = self._times.setdefault(node.name, [self.clock(), -1.0, -1.0])
        request = self.request
        try:
            yield Call(
                request_id=request.request_id,
                node=node.name,
                component=node.component,
                version=node.version(request.versions),
                deadline_s=self.deadline_s if deadline_s is None else deadline_s,
                session_id=request.session_id,
                trace_parent=self.trace_parent,
            )
        except AnyplexError as error:
            placed = _placed(error, node)
            if placed is error:
                raise
            raise placed from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                self.stopped.append(node.name)
                raise
            # Nobody here cancelled: the transport under the call did. Passed on, it would end the request silently.
            raise Unavailable("the call was cut off", f"node {node.name}") from None
        finally:
            times[2] = self.clock()

    def first_result(self, node: NodePlan) -> None:
        """Note that the first result of a node is there; later ones change nothing."""
        times = self._times[node.name]
        if times[1] < 0:
            times[1] = self.clock()

    def timings(self) -> tuple[NodeTiming, ...]:
        """Return when every node ran, seconds since the start; a node called several times is one span."""
        now = self.clock()
        found = []
        for name, (start, first, end) in self._times.items():
            end = end if end >= 0 else now
            first = first if first >= 0 else end
            found.append(NodeTiming(name, start - self.start_s, first - self.start_s, end - self.start_s))
        return tuple(found)
