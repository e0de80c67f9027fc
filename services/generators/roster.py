"""Who denoises now and who waits: the policy of joining and leaving, without models, threads or clocks."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Member = TypeVar("Member", bound=Hashable)


class Roster(Generic[Member]):
    """Members wait by priority, then in the order they came; those of one shape work side by side.

    Every group takes its step in turn, so that none waits for another to end; a place that falls free goes to
    whoever waits first, whatever its shape.

    Args:
        most: Most members that work at once, all shapes together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, Hashable, Member]] = []
        self._groups: dict[Hashable, list[Member]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting or self._groups)

    @property
    def working(self) -> int:
        """How many work."""
        return sum(map(len, self._groups.values()))

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wait(self, member: Member, shape: Hashable, priority: int) -> None:
        """Let a member wait."""
        heapq.heappush(self._waiting, (-priority, next(self._order), shape, member))

    def join(self) -> list[Member]:
        """Let the first of those that wait join while there is room; return them."""
        joined = []
        while self._waiting and self.working < self._most:
            _, _, shape, member = heapq.heappop(self._waiting)
            self._groups.setdefault(shape, []).append(member)
            joined.append(member)
        return joined

    def groups(self) -> list[list[Member]]:
        """Return those that work, by shape; the lists are the caller's."""
        return [list(members) for members in self._groups.values()]

    def leave(self, member: Member) -> None:
        """Let a member that works go; one that is not there is no harm."""
        for shape, members in list(self._groups.items()):
            if member in members:
                members.remove(member)
                if not members:
                    del self._groups[shape]
                return

    def drop(self, over: Callable[[Member], bool]) -> list[Member]:
        """Take out everybody, working or waiting, of whom ``over`` is true; return them."""
        dropped = [entry[3] for entry in self._waiting if over(entry[3])]
        if dropped:
            self._waiting = [entry for entry in self._waiting if entry[3] not in set(dropped)]
            heapq.heapify(self._waiting)
        for members in self.groups():
            for member in filter(over, members):
                self.leave(member)
                dropped.append(member)
        return dropped

    def clear(self) -> None:
        """Forget everybody."""
        self._waiting, self._groups = [], {}
