"""``anyplex eval``: measures systems with a suite, through their gateway."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from services.cli.connect import Connection, connection_options
from services.cli.exits import Exit
from services.cli.given import slots_given
from services.cli.output import Progress, print_json, table

if TYPE_CHECKING:
    from anyplex import System
    from services.evaluation.suite import SuiteSpec

ROOT = Path(__file__).resolve().parents[2]


@click.command("eval")
@click.argument("suite", required=False)
@click.option("--system", "-s", "names", multiple=True, help="System to measure; may be given several times.")
@click.option("--limit", "-n", type=click.IntRange(1), help="Most cases of a row; such a run is not judged.")
@click.option("--compare", "other", type=click.Path(path_type=Path), metavar="RUN", help="Another run: folder or name.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Requests at a time.")
@click.option("--deadline", "deadline_s", type=float, default=120.0, show_default=True, help="Seconds for an answer.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of runs.")
@click.option("--fresh", is_flag=True, help="Ask everything again, even what this run has answered before.")
@click.option("--skip-missing", is_flag=True, help="Leave out rows that need programs which are not installed.")
@click.option(
    "--pin", "pins", multiple=True, metavar="SLOT=VERSION", help="Ask a version that is loaded, not the live one."
)
@click.option("--start", is_flag=True, help="Start a cluster for it, and stop it afterwards.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@connection_options
def evaluate(
    suite: str | None,
    names: tuple[str, ...],
    limit: int | None,
    other: Path | None,
    concurrency: int,
    deadline_s: float,
    out: Path | None,
    fresh: bool,
    skip_missing: bool,
    pins: tuple[str, ...],
    start: bool,
    as_json: bool,
    connection: Connection,
) -> int:
    """Measure systems with SUITE; without one, list the suites.

    Writes cases, answers, JSON and Markdown with pictures, and goes on where a run was stopped. Exits with 10 where
    a figure that the suite asks for is missed, or not known because its row was left out.
    """
    from services.evaluation.plan import RunOptions, plan_run
    from services.evaluation.run import Evaluation
    from services.evaluation.runner import RunSettings
    from services.evaluation.suite import load_suite

    if suite is None:
        context = click.get_current_context()
        if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
            raise click.UsageError("which suite? `anyplex eval` alone lists them", context)
        return _list_suites()
    pinned = slots_given(pins)
    spec = load_suite(suite)
    folder = out or (ROOT / "benchmarks" / "results" if (ROOT / "benchmarks").is_dir() else Path("results"))
    if other is not None and not other.exists() and (folder / other).exists():
        other = folder / other
    options = RunOptions(limit, fresh, skip_missing, other)
    plan_run(spec, options)  # mistakes are told before anything is started
    results = []
    with contextlib.ExitStack() as stack:
        if start:
            connection = stack.enter_context(_started(names))
        for system in _chosen(connection, names):
            _check_directions(spec, system)
            settings = RunSettings(system.name, concurrency, deadline_s, pinned)
            evaluation = Evaluation(spec, settings, folder, options)
            results.append(_run(evaluation, connection, system, quiet=as_json))
    if as_json:
        print_json(results)
    return Exit.SHORT if _short(results) else Exit.OK


def _check_directions(suite: SuiteSpec, system: System) -> None:
    """Refuse to ask a system thousands of times for what it neither reads nor makes.

    Raises:
        FailedPrecondition: It lacks a modality of the suite's table of directions.
    """
    from graph.errors import FailedPrecondition

    cells = [row.cell for row in suite.rows.values() if row.cell is not None]
    lacking = [
        f"reads no {given}" for given in dict.fromkeys(given for given, _ in cells) if given not in system.inputs
    ]
    lacking += [f"makes no {made}" for made in dict.fromkeys(made for _, made in cells) if made not in system.outputs]
    if lacking:
        raise FailedPrecondition(
            f"suite {suite.suite} asks for every direction, and {system.name} {', '.join(lacking)}"
        )


def _list_suites() -> int:
    from services.evaluation.suite import load_suite, suite_files

    click.echo(table("", ("suite", "about"), [(name, load_suite(name).summary) for name in suite_files()]))
    return Exit.OK


def _run(
    evaluation: Any,  # noqa: ANN401 - imported where it is used: it loads numpy
    connection: Connection,
    system: System,
    quiet: bool,
) -> dict[str, Any]:
    from services.evaluation import report

    with Progress(f"asking {system.name}") as progress:

        def show(done: int, right: int, count: int) -> None:
            if done % 25 == 0 or done == count:
                progress.update(f"{system.name}: {done} of {count} asked, {right} right")

        versions = {**system.versions, **evaluation.settings.pinned}
        result, folder = evaluation.run(connection.async_client, versions, show)
    for name, programs in result["skipped"].items():
        click.echo(f"LEFT OUT: {name}: not installed here: {programs}", err=True)
    if result["limit"]:
        click.echo(f"NOT JUDGED: only the first {result['limit']} cases of a row were asked", err=True)
    if not quiet:
        title = f"{result['suite']}: {system.name}"
        click.echo(table(title, report.COLUMNS, report.rows_table(result["rows"])))
        if "comparison" in result:
            compared = result["comparison"]
            rows = report.comparison_table(compared["rows"] | ({"ALL": compared["all"]} if compared["all"] else {}))
            click.echo(table(f"\nagainst {result['comparison']['with']}", report.COMPARISON_COLUMNS, rows))
            if missing := report.left_out(result["comparison"]):
                click.echo(missing)
        click.echo(f"written to {folder}\n", err=True)
    return dict(result)


def _short(results: list[dict[str, Any]]) -> bool:
    from services.evaluation.report import short_checks

    short = [f"{result['system']}: {line}" for result in results for line in short_checks(result)]
    for line in short:
        click.echo(line, err=True)
    return bool(short)


def _chosen(connection: Connection, names: tuple[str, ...]) -> list[System]:
    """Return the systems to measure; the default one where none is named."""
    from graph.errors import NotFound
    from graph.problems import did_you_mean

    with connection.client() as client:
        address, running = client.address, {system.name: system for system in client.systems()}
    for name in names:
        if name not in running:
            raise NotFound(f"{name!r} does not run at {address} ({did_you_mean(name, running)})")
    if names:
        return [running[name] for name in names]
    return [system for system in running.values() if system.default] or list(running.values())[:1]


@contextlib.contextmanager
def _started(names: tuple[str, ...]) -> Iterator[Connection]:
    from services.cli.temporary import temporary_cluster

    with temporary_cluster(names or ("next-gpt",), "eval") as state:
        yield Connection(state.address, state.token)
