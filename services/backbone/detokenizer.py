"""From produced ids to text that can be shown at once: whole characters, no control tokens, no stop strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

REPLACEMENT = "\ufffd"
# A character has at most four bytes, so at most three replacement characters at the end may still change.
OPEN_CHARACTERS = 3


class Detokenizer:
    """Turns ids into text one by one.

    What a token spells may depend on the one before it (leading spaces), so a short window is decoded and what
    it spelt before is cut off.

    Args:
        decode: Decodes a sequence of ids, control tokens left out.
        before: Ids that came before and were shown already.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int] = ()) -> None:
        self._decode = decode
        self._window = list(before)
        self._shown = len(self.stable)

    def push(self, token_id: int) -> str:
        """Add an id; return the text that is certain now."""
        self._window.append(token_id)
        stable = self.stable
        fresh = stable[self._shown :]
        self._shown = max(self._shown, len(stable))
        if fresh and not self._decode(self._window).endswith(REPLACEMENT):
            # Nothing is open: the last token is context enough for the next.
            self._window = self._window[-1:]
            self._shown = len(self._decode(self._window))
        return fresh

    @property
    def stable(self) -> str:
        """What the ids that it still looks at spell for certain; at first that is all of those before."""
        text = self._decode(self._window)
        closed = text.rstrip(REPLACEMENT)
        return text[: max(len(closed), len(text) - OPEN_CHARACTERS)]


@dataclass
class StopScanner:
    """Finds stop strings in text that comes in pieces, and holds back what may become one.

    Attributes:
        stops: The strings.
        stopped: Whether one was found; nothing is let through afterwards.
    """

    stops: tuple[str, ...]
    stopped: bool = False
    _held: str = field(default="", repr=False)

    @property
    def held(self) -> str:
        """What is held back: it may become a stop string."""
        return self._held

    def push(self, text: str) -> str:
        """Add text; return what can be shown."""
        if self.stopped:
            return ""
        self._held += text
        found = [place for stop in self.stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = self._open_length()
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """Return what was held back: no stop string came."""
        held, self._held = self._held, ""
        return held

    def _open_length(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = 0
        for stop in self.stops:
            for length in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:length]):
                    longest = length
                    break
        return longest
