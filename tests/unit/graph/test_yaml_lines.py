"""YAML is read with lines, and what could surprise is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.problems import Problem, Report
from graph.yaml_lines import MAX_FILE_BYTES, Located, parse_yaml, read_yaml

LAUGHS = "a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\n"


def problems_of(text: str) -> list[Problem]:
    report = Report("f.yaml")
    parse_yaml(text, report)
    return report.problems


def test_every_key_has_its_line() -> None:
    report = Report("f.yaml")
    located = parse_yaml("# a comment\nsystem: x\nnodes:\n  see:\n    kind: encoder\n", report)
    assert located is not None
    top = located.value
    assert isinstance(top, dict)
    nodes = top["nodes"]
    assert (top["system"].line, nodes.line) == (2, 3)
    assert isinstance(nodes.value, dict)
    assert nodes.value["see"].line == 4
    assert not report.problems


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 0, "empty"),
        ("# only a comment\n", 0, "empty"),
        ("a: [1\nb: 2\n", 2, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", 3, "comes twice, first on line 1"),
        (LAUGHS, 1, "aliases"),
        ("a: *missing\n", 1, "aliases"),
        ("a: !!python/object/apply:os.system [x]\n", 1, "tag"),
        ("x: !!python/name:os.system\n", 1, "tag"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("[" * 5000, 1, "nested"),
        ("a: " + "{a: " * 50, 1, "nested"),
        ("a: \x00b", 1, "U+0000"),
        ("a: " + "9" * 5000, 1, "cannot be read as a value"),
        ("? [a, b]\n: 1\n", 1, "a key must be a word"),
        ("a: " + "x" * MAX_FILE_BYTES, 0, "at most"),
    ],
)
def test_what_could_surprise_is_a_problem(text: str, line: int, words: str) -> None:
    problems = problems_of(text)
    assert problems
    assert problems[0].line == line
    assert words in problems[0].message


def test_files_that_are_none(tmp_path: Path) -> None:
    big, latin = tmp_path / "big.yaml", tmp_path / "latin.yaml"
    big.write_bytes(b"a: " + b"x" * 10_000_000)
    latin.write_bytes("system: a\nsource: Zürich\n".encode("latin-1"))
    told = []
    for path in (tmp_path / "missing.yaml", tmp_path, big, latin, Path("\0")):
        report = Report(path.name)
        assert read_yaml(path, report) is None
        told.append(str(report.problems[0]))
    assert "No such file" in told[0]
    assert "not a file" in told[1]
    assert "10000003 bytes" in told[2]
    assert told[3].startswith("latin.yaml:2: byte 0xfc is not UTF-8")
    assert "cannot be read" in told[4]


@settings(deadline=None, derandomize=True, database=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!#|>'\"%@`, \n\t?0.é\x01"), max_size=60))
def test_any_text_reads_or_is_a_problem(text: str) -> None:
    report = Report("f.yaml")
    located = parse_yaml(text, report)
    assert report.problems or isinstance(located, Located)
