"""Entry point of the command ``anyplex``: commands are imported when they run, errors end in one line."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence

import click

from graph.problems import did_you_mean
from services.cli.exits import Exit, exit_code

_COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("services.cli.lifecycle:up", "Start a cluster that serves systems."),
    "apply": ("services.cli.apply:apply", "Bring a running cluster to what a system file describes."),
    "delete": ("services.cli.apply:delete", "Take a system away from a running cluster."),
    "swap": ("services.cli.swap:swap", "Change versions of a running system: `swap SYSTEM SLOT=VERSION...`."),
    "promote": ("services.cli.swap:promote", "Make a canary live."),
    "rollback": ("services.cli.swap:rollback", "Go back to the versions before."),
    "down": ("services.cli.lifecycle:down", "Stop it."),
    "status": ("services.cli.status:status", "Show components, replicas, versions, load."),
    "ask": ("services.cli.ask:ask", "Ask something, about media or not; the answer streams."),
    "systems": ("services.cli.systems:systems", "List systems."),
    "describe": ("services.cli.systems:describe", "Show one system with its nodes."),
    "register": ("services.cli.registry:register", "Make artifacts known to the registry."),
    "versions": ("services.cli.registry:versions", "List the versions that the registry knows."),
    "rollout": ("services.cli.registry:rollout", "Show the rollouts of a system."),
    "history": ("services.cli.registry:history", "Show what happened to the versions of a system."),
    "check": ("services.cli.check:check", "Validate system and profile files, offline."),
    "eval": ("services.cli.evaluate:evaluate", "Measure a system with a suite."),
    "bench": ("services.cli.bench:bench", "Run a benchmark."),
    "train": ("services.cli.train:train", "Train: `train run FILE.yaml`."),
    "component": ("services.cli.component:component", "Run one component by hand: `component serve`."),
}
_EXITS = (
    "Exit codes: 0 ok, 1 internal error, 2 usage, 3 invalid input, 4 unavailable, 5 not found, 6 exhausted, "
    "7 deadline, 8 not allowed, 9 wrong state, 10 scores too low, 130 interrupted."
)


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own; ``--help`` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        import importlib

        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed.

        Raises:
            click.UsageError: There is none of that name; says which one may have been meant.
        """
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            raise click.UsageError(f"no such command: {args[0]} ({did_you_mean(args[0], _COMMANDS)})", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"anyplex {version('anyplex-server')}")
        ctx.exit()


@click.group(
    cls=LazyGroup, epilog=_EXITS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--debug", is_flag=True, help="Show where an error comes from; may stand anywhere.")
@click.option("--version", is_flag=True, callback=_print_version, expose_value=False, is_eager=True, help="Show it.")
def cli(debug: bool) -> None:
    """Serve any-to-any multimodal LLMs as a graph of components, and talk to them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    arguments, debug = _take_debug(arguments)
    return guarded(lambda: cli.main(arguments, prog_name="anyplex", standalone_mode=False), debug)


def guarded(command: Callable[[], object], debug: bool = False) -> int:
    """Run a command; whatever goes wrong ends in one line on stderr and an exit code."""
    try:
        result = command()
        sys.stdout.flush()
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        _say(error.format_message())
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return Exit.INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # Whoever read has gone (`| head`); click itself leaves with SystemExit then. Nothing is left to be written,
        # and the interpreter must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the outermost handler: one line for people, the rest with --debug
        return _failed(error, debug)
    return result if isinstance(result, int) else Exit.OK


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out of the arguments, wherever it stands before ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head = [argument for argument in arguments[:end] if argument != "--debug"]
    return head + arguments[end:], len(head) < end or bool(os.environ.get("ANYPLEX_DEBUG"))


def _usage(error: click.UsageError) -> int:
    command = error.ctx.command_path if error.ctx is not None else "anyplex"
    _say(f"{error.format_message().rstrip('.')}; see `{command} --help`")
    return Exit.USAGE


def _failed(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    problems = getattr(error, "problems", ())
    for problem in problems:
        click.echo(str(problem), err=True)
    message = " ".join(str(error).split()) or type(error).__name__
    known = hasattr(error, "code")
    if getattr(error, "code", "") == "unavailable":
        message = _for_people(message)
    _say(message if known else f"{type(error).__name__}: {message} (--debug shows where)")
    return exit_code(error)


def _for_people(message: str) -> str:
    """Return what to do where nobody listens at all; whatever else a connection fails of is left as gRPC tells it."""
    address, mark, reason = message.partition(" cannot be reached: ")
    if not mark or "connection refused" not in reason.lower():
        return message
    return f"nothing answers at {address}; start a cluster: anyplex up --detach"


def _say(message: str) -> None:
    click.echo(f"anyplex: {message}", err=True)


if __name__ == "__main__":
    main()
