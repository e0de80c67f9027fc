"""Files and functions stay of a size that can be read in one sitting."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("graph", "services", "protos/anyplex", "benchmarks", "tests")
FILES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
)
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 50


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.fixture(scope="module", autouse=True)
def uncollected() -> Iterator[None]:
    """Python 3.11 counts the depth of a tree wrongly when a finalizer runs while it is built."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_sizes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {one.name: body_lines(one) for one in functions if body_lines(one) > MOST_LINES_OF_A_FUNCTION} == {}
