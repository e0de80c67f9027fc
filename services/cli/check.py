"""``anyplex check``: validates files without a cluster; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

import click

from services.cli.exits import Exit


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
def check(files: tuple[Path, ...], as_json: bool) -> int:
    """Validate system and profile files, offline.

    All problems are told at once, each with its file, line and a hint. Exits with 3 if there are any.
    """
    from graph.validate import check_files

    problems = check_files(files)
    if as_json:
        from services.cli.output import print_json

        print_json([{"file": p.file, "line": p.line, "message": p.message, "hint": p.hint} for p in problems])
    else:
        for problem in problems:
            click.echo(str(problem))
        counted = f"{len(files)} file{'s' if len(files) > 1 else ''}"
        found = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}" if problems else "no problems"
        click.echo(f"{counted}, {found}", err=bool(problems))
    return Exit.INVALID if problems else Exit.OK
