"""Reads typed fields from a located mapping; complains about what is wrong and goes on with the default."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from graph.problems import Report, did_you_mean
from graph.yaml_lines import Located, Scalar, shown


def _name_of(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return shown(value)


class Fields:
    """One mapping of a file.

    Args:
        source: The mapping; anything else is a problem and reads as an empty one.
        report: Where problems go.
        what: What the mapping describes, for messages ("node 'see'").
        known: Keys that may stand in it; None leaves the check to the reader.
    """

    def __init__(self, source: Located, report: Report, what: str, known: Iterable[str] | None = None) -> None:
        self.report = report
        self.what = what
        self.own_line = source.line
        self.values: Mapping[str, Located] = {}
        if isinstance(source.value, dict):
            self.values = source.value
        else:
            report.add(source.line, f"{what}: a mapping expected, found {_name_of(source.value)}")
        if known is not None:
            self._refuse_unknown(list(known))

    def _refuse_unknown(self, known: list[str]) -> None:
        for key, value in self.values.items():
            if key not in known:
                self.report.add(value.line, f"{self.what}: unknown key {shown(key)}", did_you_mean(key, known))

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def line(self, key: str = "") -> int:
        """Return the line of a key, or the mapping's own when the key is absent."""
        return self.values[key].line if key in self.values else self.own_line

    def lines(self) -> dict[str, int]:
        """Return the line of every key, and the mapping's own under the empty key."""
        return {"": self.own_line, **{key: value.line for key, value in self.values.items()}}

    def wrong(self, key: str, expected: str, found: object) -> None:
        """Note that a field is not what was expected."""
        self.report.add(self.line(key), f"{self.what}: {key}: {expected} expected, found {_name_of(found)}")

    def text(self, key: str, default: str = "", *, required: bool = False, pattern: str = "", form: str = "") -> str:
        """Read text; numbers that look like names (``1.5``) are taken as they were written."""
        if key not in self.values:
            if required:
                self.report.add(self.own_line, f"{self.what}: key {key!r} is missing", f"add '{key}: …'")
            return default
        value = self.values[key].value
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.wrong(key, "text", value)
            return default
        word = str(value)
        if pattern and not re.fullmatch(pattern, word):
            self.wrong(key, form or f"text like {pattern}", word)
            return default
        return word

    def choice(self, key: str, choices: Iterable[str], default: str = "", *, required: bool = False) -> str:
        """Read one of several words."""
        word = self.text(key, default, required=required)
        allowed = list(choices)
        if key in self.values and word and word not in allowed:
            self.report.add(self.line(key), f"{self.what}: unknown {key} {shown(word)}", did_you_mean(word, allowed))
            return default
        return word

    def integer(self, key: str, default: int, minimum: int, maximum: int) -> int:
        """Read a whole number within bounds."""
        if key not in self.values:
            return default
        value = self.values[key].value
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            self.wrong(key, f"a whole number from {minimum} to {maximum}", value)
            return default
        return value

    def number(self, key: str, default: float, minimum: float, maximum: float) -> float:
        """Read a number within bounds."""
        if key not in self.values:
            return default
        value = self.values[key].value
        # Compared before converted: NaN fails the comparison, a huge integer never becomes a float.
        if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
            self.wrong(key, f"a number from {minimum:g} to {maximum:g}", value)
            return default
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """Read true or false."""
        if key not in self.values:
            return default
        value = self.values[key].value
        if not isinstance(value, bool):
            self.wrong(key, "true or false", value)
            return default
        return value

    def names(self, key: str) -> tuple[tuple[str, int], ...]:
        """Read a name or a list of names, each with its line; the same name twice is a problem."""
        if key not in self.values:
            return ()
        located = self.values[key]
        items = located.value if isinstance(located.value, list) else [located]
        found: dict[str, int] = {}
        for item in items:
            if not isinstance(item.value, str) or not item.value:
                self.wrong(key, "a name or a list of names", item.value)
            elif item.value in found:
                self.report.add(item.line, f"{self.what}: {key}: {shown(item.value)} comes twice", "name it once")
            else:
                found[item.value] = item.line
        return tuple(found.items())

    def section(self, key: str, known: Iterable[str] | None = None) -> Fields:
        """Read a mapping inside this one; absent reads as empty."""
        source = self.values.get(key, Located({}, self.own_line))
        return Fields(source, self.report, f"{self.what}: {key}" if self.what else key, known)

    def plain(self, key: str) -> Scalar | tuple[Scalar, ...]:
        """Read a plain value or a list of plain values as it stands."""
        value = self.values[key].value
        if isinstance(value, dict) or (isinstance(value, list) and any(_nested(item) for item in value)):
            self.wrong(key, "a plain value or a list of plain values", value)
            return None
        if isinstance(value, list):
            return tuple(item.value for item in value)  # type: ignore[misc]
        return value


def _nested(item: Located) -> bool:
    return isinstance(item.value, dict | list)
