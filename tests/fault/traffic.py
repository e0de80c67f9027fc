"""Clients that keep asking, and remember how every answer ended."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from anyplex import AnyplexError, Client
from tests.cluster import SYSTEMS, Cluster
from tests.pictures import picture


@dataclass
class Outcome:
    """One request: when it was asked, when it ended, and with what."""

    begun_s: float
    ended_s: float
    error: AnyplexError | None = None

    @property
    def code(self) -> str:
        return self.error.code if self.error is not None else "ok"


@dataclass
class Traffic:
    """So many clients, each asking one question after the other; they never try again by themselves.

    Attributes:
        cluster: Whom they ask.
        clients: How many there are.
        options: Of every request.
    """

    cluster: Cluster
    clients: int = 8
    options: dict[str, Any] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Traffic:
        address = self.cluster.address
        for number in range(self.clients):
            thread = threading.Thread(target=self._ask, args=(number, address), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=120)

    def _ask(self, number: int, address: str) -> None:
        system = SYSTEMS[number % 2] if "system" not in self.options else self.options["system"]
        options = {"max_tokens": 24, "deadline_s": 90.0, **self.options, "system": system}
        parts = options.pop("parts", None) or ["what is this?", picture(number)]
        turn = 0
        with Client(address, token=self.cluster.token, retry=False) as client:
            while not self._stopping.is_set():
                turn += 1
                begun_s = time.monotonic()
                error = None
                try:
                    client.generate(parts, seed=turn, **options)
                except AnyplexError as caught:
                    error = caught
                    # A gateway that is away is asked again a little later, as a client would.
                    time.sleep(0.1)
                self.outcomes.append(Outcome(begun_s, time.monotonic(), error))

    def finished_since(self, moment_s: float) -> int:
        """How many requests that began after a moment were answered."""
        return sum(outcome.begun_s >= moment_s and outcome.error is None for outcome in self.outcomes)

    def errors(self) -> list[Outcome]:
        """Requests that failed."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]
