"""Proves that what the README tells people to type exists: commands, make targets, Python, files."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from tests.tools import scores

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def blocks(text: str) -> Iterator[tuple[str, int, str]]:
    """Yield language, first line and content of every code block."""
    for match in _BLOCK.finditer(text):
        yield match.group(1), text.count("\n", 0, match.start()) + 2, match.group(2)


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def check_make(words: list[str]) -> str:
    """Return what is wrong with a call of make; empty when nothing is."""
    goals = [word for word in words if "=" not in word]
    if goals[:1] == ["bench"]:
        names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
        return "" if set(goals[1:]) <= names else f"no benchmark {goals[1]}"
    unknown = [goal for goal in goals if goal not in targets()]
    return f"no target {', '.join(unknown)}" if unknown else ""


def check_anyplex(words: list[str]) -> str:
    """Return what is wrong with a call of the command; empty when nothing is. Nothing is run."""
    from services.cli.main import cli

    command: click.Command = cli
    context = click.Context(cli, info_name="anyplex")
    if words and words[0].startswith("--"):
        return "" if words[0] in {"--version", "--help", "--debug"} else f"no option {words[0]}"
    try:
        while isinstance(command, click.Group) and words:
            name, found, words = command.resolve_command(context, words)
            if found is None or name is None:
                return "no such command"
            command, context = found, click.Context(found, info_name=name, parent=context)
        command.make_context("anyplex", [word for word in words if word != "--debug"])
    except click.UsageError as error:
        return error.format_message()
    return ""


def check_shell(line: str) -> str:
    """Return what is wrong with a line of shell; empty when nothing is, or when it calls something else."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if "|" in words or ">" in words:
        words = words[: min(words.index(mark) for mark in ("|", ">") if mark in words)]
    if words[:1] == ["make"]:
        return check_make(words[1:])
    if words and words[0].rpartition("/")[2] == "anyplex":
        return check_anyplex(words[1:])
    return ""


def check_python(source: str) -> str:
    """Return what is wrong with a piece of Python; empty when nothing is."""
    import anyplex

    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return f"not Python: {error}"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "anyplex":
            missing = [alias.name for alias in node.names if not hasattr(anyplex, alias.name)]
            if missing:
                return f"anyplex has no {', '.join(missing)}"
    return ""


def problems(path: Path) -> list[str]:
    """Return everything in a page that is not true."""
    text = path.read_text(encoding="utf-8")
    found = []
    for language, first, content in blocks(text):
        if language == "python":
            found.append((first, check_python(content)))
        elif language == "sh":
            found += [(first + i, check_shell(line)) for i, line in enumerate(content.splitlines()) if line.strip()]
    found += scores.problems(text)
    for match in _LINK.finditer(text):
        if not (path.parent / match.group(1)).exists():
            found.append((text.count("\n", 0, match.start()) + 1, f"no file {match.group(1)}"))
    return [f"{path.name}:{line}: {problem}" for line, problem in found if problem]


def main() -> int:
    """Check the README."""
    found = problems(ROOT / "README.md")
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"README: {len(found)} commands or files that do not exist")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
