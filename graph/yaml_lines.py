"""YAML with the line of every key, and with nothing in it that could surprise: no tags, no aliases, no depth."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

import yaml

from graph.problems import Report

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 12
MAX_SHOWN_CHARS = 60
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Located:
    """A value and the line it (or its key) stands on, from 1."""

    value: Scalar | list[Located] | dict[str, Located]
    line: int


def read_yaml(path: Path, report: Report) -> Located | None:
    """Read a YAML file; None when there is nothing to go on with, the reasons in ``report``."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            report.add(0, "not a file", "name the YAML file itself")
            return None
        if status.st_size > MAX_FILE_BYTES:
            report.add(0, f"{status.st_size} bytes, at most {MAX_FILE_BYTES} expected", "is this the right file?")
            return None
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        report.add(0, f"cannot be read: {reason}")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        report.add(line, f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8")
        return None
    return parse_yaml(text, report)


def parse_yaml(text: str, report: Report) -> Located | None:
    """Parse one YAML document; None when there is nothing to go on with, the reasons in ``report``."""
    if len(text) > MAX_FILE_BYTES:
        report.add(0, f"{len(text)} characters, at most {MAX_FILE_BYTES} expected", "is this the right file?")
        return None
    try:
        if not _is_plain(text, report):
            return None
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(part for part in (error.context, error.problem) if part)
        report.add(_line_of(mark), f"not valid YAML: {message}")
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        report.add(line, f"not valid YAML: character U+{ord(text[error.position]):04X} is not allowed")
        return None
    if node is None:
        report.add(0, "the file is empty")
        return None
    return _convert(node, node.start_mark.line + 1, report)


def _is_plain(text: str, report: Report) -> bool:
    """Look at the flat stream of events first, so that depth and aliases never reach recursive code."""
    depth, documents = 0, 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = _line_of(event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            report.add(line, "anchors and aliases (&, *) are not allowed", "write the value out")
            return False
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            report.add(line, f"nested deeper than {MAX_DEPTH} levels")
            return False
        if documents > 1:
            report.add(line, "a second document (---) starts here", "one file, one document")
            return False
    return True


def _line_of(mark: object) -> int:
    line = getattr(mark, "line", None)
    return line + 1 if isinstance(line, int) else 0


def _convert(node: yaml.Node, line: int, report: Report) -> Located:
    if node.tag not in PLAIN_TAGS and not node.tag.endswith(":timestamp"):
        report.add(line, f"tag {shown(node.tag)} is not allowed", "plain values only; quote text that looks special")
        return Located(None, line)
    if isinstance(node, yaml.MappingNode):
        return Located(_mapping(node, report), line)
    if isinstance(node, yaml.SequenceNode):
        return Located([_convert(item, item.start_mark.line + 1, report) for item in node.value], line)
    if isinstance(node, yaml.ScalarNode):
        return Located(_scalar(node, line, report), line)
    raise TypeError(f"no such kind of YAML node: {type(node).__name__}")


def _mapping(node: yaml.MappingNode, report: Report) -> dict[str, Located]:
    values: dict[str, Located] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            report.add(line, "a key must be a word, not a list or a mapping")
            continue
        key = str(key_node.value)
        value = _convert(value_node, line, report)
        if key in values:
            report.add(line, f"key {shown(key)} comes twice, first on line {values[key].line}", "keep one of the two")
            continue
        values[key] = value
    return values


def _scalar(node: yaml.ScalarNode, line: int, report: Report) -> Scalar:
    if node.tag.endswith(":timestamp"):
        return str(node.value)
    try:
        value: Scalar = yaml.SafeLoader("").construct_object(node, deep=True)
    except (ValueError, KeyError, yaml.YAMLError):
        report.add(line, f"{shown(node.value)} cannot be read as a value", "quote it if it is text")
        return None
    return value


def shown(value: object) -> str:
    """Show a value in a message: quoted, on one line, not too long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[: MAX_SHOWN_CHARS - 1]}…"
