"""What applying a file would change: between what is known of a system and what its files and weights ask for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.registry.records import LIVE, KnownArtifact, KnownSystem

MOST_LINES = 200


@dataclass(frozen=True)
class Wanted:
    """A state to reach.

    Attributes:
        system: Name of the system.
        system_yaml: Its file.
        profile_yaml: Its profile's file; "" for the cluster's default.
        slots: Slot to version.
    """

    system: str
    system_yaml: str
    profile_yaml: str
    slots: Mapping[str, str]


@dataclass(frozen=True)
class SlotChange:
    """What becomes of one slot.

    Attributes:
        slot: Which.
        before: Version it runs; "" for none.
        after: Version it is to run; "" for none.
        in_place: Whether the new version is of the same architecture, so that it is loaded beside the old one.
    """

    slot: str
    before: str
    after: str
    in_place: bool

    def __str__(self) -> str:
        if not self.before:
            return f"+ {self.slot}: {self.after}"
        if not self.after:
            return f"- {self.slot}: {self.before}"
        how = "loaded beside it" if self.in_place else "a new component beside it"
        return f"~ {self.slot}: {self.before} → {self.after} ({how})"


@dataclass(frozen=True)
class Difference:
    """What has to change.

    Attributes:
        system: Name of the system.
        new: Whether it does not run yet.
        slots: Slots that change.
        file_lines: The files' lines that change, as `diff` writes them; at most 200.
    """

    system: str
    new: bool = False
    slots: tuple[SlotChange, ...] = ()
    file_lines: tuple[str, ...] = field(default=())

    @property
    def empty(self) -> bool:
        """Whether everything is as it is asked for."""
        return not (self.new or self.slots or self.file_lines)

    @property
    def changes(self) -> dict[str, str]:
        """Slot to new version, as a rollout takes them: "" empties a slot."""
        return {change.slot: change.after for change in self.slots}

    def lines(self) -> list[str]:
        """Return it for people."""
        if self.empty:
            return [f"system {self.system}: nothing to change"]
        head = f"system {self.system}: {'new' if self.new else 'changed'}"
        return [head, *map(str, self.slots), *self.file_lines]


def difference(known: KnownSystem | None, wanted: Wanted, artifacts: Mapping[str, KnownArtifact]) -> Difference:
    """Compare.

    Args:
        known: What runs; None for nothing.
        wanted: What is asked for.
        artifacts: What is known of the versions on either side.
    """
    live = known.sets.get(LIVE) if known is not None else None
    before: Mapping[str, str] = {} if live is None else live.slots
    slots = [
        SlotChange(slot, old, new, _alike(artifacts.get(old), artifacts.get(new)))
        for slot in sorted({*before, *wanted.slots})
        if (old := before.get(slot, "")) != (new := wanted.slots.get(slot, ""))
    ]
    files = ("", "") if known is None else (known.system_yaml, known.profile_yaml)
    lines = [
        *_file_lines(f"{wanted.system}.yaml", files[0], wanted.system_yaml),
        *_file_lines("profile", files[1], wanted.profile_yaml),
    ]
    return Difference(wanted.system, known is None, tuple(slots), _shortened(lines))


def _alike(one: KnownArtifact | None, other: KnownArtifact | None) -> bool:
    if one is None or other is None:
        return False
    return (one.kind, one.type, one.config_hash) == (other.kind, other.type, other.config_hash)


def _file_lines(name: str, before: str, after: str) -> list[str]:
    return list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), f"{name} now", f"{name} asked for", "", "", 1, "")
    )


def _shortened(lines: list[str]) -> tuple[str, ...]:
    if len(lines) <= MOST_LINES:
        return tuple(lines)
    return (*lines[: MOST_LINES - 1], f"… and {len(lines) - MOST_LINES + 1} lines more")
