"""The signal gate of one answer: which signal tokens may come, which must, and where a block ends.

A block is the tokens of one family in their order. Its first token is the model's to choose, or forced where a
modality must come; the others follow whatever the model says, so that a block once begun closes right. An answer too
short for a whole block gets none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graph.errors import InvalidRequest


class SignalGate:
    """Follows the signal tokens of one answer.

    Args:
        families: Ids of every modality's signal tokens.
        wanted: Modalities whose block must come, in order.
        text_only: No block may come.
        produced_ids: Tokens of the answer produced elsewhere.

    Attributes:
        blocks: How many blocks have closed.
        wanted: Modalities whose block must still come.
        seen: How many tokens of the open block have come; 0 when none is open.
    """

    def __init__(
        self,
        families: Mapping[str, tuple[int, ...]],
        wanted: Sequence[str] = (),
        text_only: bool = False,
        produced_ids: Sequence[int] = (),
    ) -> None:
        self._families = families
        self._openers = {ids[0]: modality for modality, ids in families.items()}
        self._text_only = text_only
        self._modality = ""
        self.blocks = 0
        self.wanted = list(wanted)
        self.seen = 0
        for token in produced_ids:
            if self.open or token in self._openers:
                self.take(token)

    @property
    def open(self) -> bool:
        """Whether a block has begun and not closed."""
        return bool(self._modality)

    @property
    def rest(self) -> tuple[int, ...]:
        """What the open block still lacks."""
        return self._families[self._modality][self.seen :] if self.open else ()

    @property
    def owed_tokens(self) -> int:
        """How many tokens the blocks that must still come take."""
        return sum(len(self._families[modality]) for modality in self.wanted)

    def opener(self) -> int:
        """Return the token that begins the first block that must still come."""
        return self._families[self.wanted[0]][0]

    def barred(self, room_tokens: int) -> list[int]:
        """Return the tokens that must not begin a block now, with room for so many tokens."""
        if not self._openers:
            return []
        if self._text_only:
            return list(self._openers)
        owed = self.owed_tokens
        return [
            token
            for token, modality in self._openers.items()
            if owed + (0 if modality in self.wanted else len(self._families[modality])) > room_tokens
        ]

    def take(self, token: int) -> str:
        """Follow one signal token; return the modality of the block it closes, if it closes one."""
        if not self.open:
            self._modality = self._openers[token]
        self.seen += 1
        if self.rest:
            return ""
        closed, self._modality, self.seen = self._modality, "", 0
        self.blocks += 1
        if closed in self.wanted:
            self.wanted.remove(closed)
        return closed


def check_produced(families: Mapping[str, tuple[int, ...]], produced_ids: Sequence[int]) -> None:
    """Check that blocks in tokens produced elsewhere are whole, but for the last.

    Raises:
        InvalidRequest: A signal token stands where it cannot have been produced.
    """
    gate = SignalGate(families)
    openers = {ids[0] for ids in families.values()}
    signals = {number for ids in families.values() for number in ids}
    for place, token in enumerate(produced_ids):
        if gate.open:
            if token != gate.rest[0]:
                where = f"produced_ids[{place}]"
                raise InvalidRequest(f"token {token} inside a signal block, {gate.rest[0]} expected", where)
            gate.take(token)
        elif token in openers:
            gate.take(token)
        elif token in signals:
            raise InvalidRequest(f"signal token {token} outside its block", f"produced_ids[{place}]")
