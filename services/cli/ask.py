"""``anyplex ask``: one question, with media or without; the answer is printed as it comes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from services.cli.connect import Connection, connection_options
from services.cli.exits import Exit
from services.cli.given import InOrder, given, parts_of
from services.cli.output import Progress, print_json, table

if TYPE_CHECKING:
    from anyplex import EventStream, Reply, RequestOptions


_EXAMPLES = """\b
Examples:
  anyplex ask "What is this?" --image cat.png
  anyplex ask -i before.png -i after.png "What changed?" --system llava-1.5 --json
  anyplex ask --audio beeps.wav "How many beeps are there?"
  anyplex ask --video clip.mp4 --speak question.wav
"""


@click.command(cls=InOrder, epilog=_EXAMPLES)
@click.argument("words", nargs=-1, metavar="[TEXT]...", expose_value=False)
@click.option("--image", "-i", multiple=True, expose_value=False, metavar="FILE", help="A picture; may come again.")
@click.option("--audio", multiple=True, expose_value=False, metavar="FILE", help="A sound or speech; likewise.")
@click.option("--video", multiple=True, expose_value=False, metavar="FILE", help="A film; likewise.")
@click.option("--speak", multiple=True, expose_value=False, metavar="FILE", help="Speech that is the request itself.")
@click.option("--system", "-s", default="", help="System to ask; else the gateway's default.")
@click.option("--instructions", default="", help="What the model is told before.")
@click.option("--session", "session_id", default="", help="Session that this turn belongs to.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Same request, same seed, same answer.")
@click.option("--max-tokens", type=int, help="Most tokens to produce.")
@click.option("--temperature", type=float, help="0 is greedy; up to 2.")
@click.option("--top-p", type=float, help="Nucleus mass.")
@click.option("--deadline", "deadline_s", type=float, default=120.0, show_default=True, help="Seconds.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder for made media.")
@click.option("--timings", is_flag=True, help="Print when each node ran, on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole answer as one JSON object.")
@connection_options
def ask(
    deadline_s: float,
    out: Path,
    timings: bool,
    as_json: bool,
    connection: Connection,
    **choices: str | float | None,
) -> int:
    """Ask something; the answer streams to stdout.

    Text and media reach the model in the order in which they stand here, speech last. One of them may be - to be
    read from stdin.
    """
    parts = parts_of(given(click.get_current_context()))
    options = cast("RequestOptions", {name: value for name, value in choices.items() if value is not None})
    with (
        connection.client() as client,
        Progress(f"waiting for {client.address}") as progress,
        client.stream(parts, deadline_s=deadline_s, **options) as stream,
    ):
        reply = _collect(stream, progress) if as_json else _follow(stream, progress)
    saved = _save(reply, out)
    if as_json:
        print_json(_as_dict(reply, saved))
    for path in [] if as_json else saved:
        click.echo(f"saved {path}", err=True)
    for failure in reply.failures:
        click.echo(f"{failure.modality or 'medium'} did not come: {failure.error}", err=True)
    if timings:
        click.echo(timings_table(reply), err=True)
    return Exit.OK


def timings_table(reply: Reply) -> str:
    """Return when each node of an answer ran."""
    rows = [
        (
            item.node,
            *(1000 * seconds for seconds in (item.start_s, item.first_s, item.end_s, item.end_s - item.start_s)),
        )
        for item in reply.timings
    ]
    return table("", ("node", "start ms", "first ms", "end ms", "took ms"), rows)


def _follow(stream: EventStream, progress: Progress) -> Reply:
    """Print the text as it comes."""
    from anyplex import MediaProgress, MediaStarted, Text

    ended_line = True
    for event in stream:
        if isinstance(event, Text) and event.choice == 0:
            progress.stop()
            sys.stdout.write(event.text)
            sys.stdout.flush()
            ended_line = event.text.endswith("\n") if event.text else ended_line
        elif isinstance(event, MediaStarted):
            progress.update(f"{event.node or event.modality} makes {event.mime_type}")
        elif isinstance(event, MediaProgress):
            progress.update(f"{event.node}: step {event.step} of {event.steps}")
    progress.stop()
    if not ended_line:
        click.echo()
    reply = stream.reply()
    for text in reply.texts[1:]:
        click.echo(text)
    return reply


def _collect(stream: EventStream, progress: Progress) -> Reply:
    reply = stream.reply()
    progress.stop()
    return reply


def _save(reply: Reply, folder: Path) -> list[Path]:
    if not reply.media:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    name = f"anyplex-{reply.request_id[:8]}"
    return [medium.save(folder / f"{name}-{index}{medium.suffix}") for index, medium in enumerate(reply.media)]


def _as_dict(reply: Reply, saved: list[Path]) -> dict[str, object]:
    """Return an answer as JSON has it."""
    return {
        "text": reply.text,
        "texts": list(reply.texts),
        "system": reply.system,
        "versions": dict(reply.versions),
        "seed": reply.seed,
        "request_id": reply.request_id,
        "finish_reason": reply.finish_reason,
        "usage": vars(reply.usage),
        "timings": [vars(timing) for timing in reply.timings],
        "elapsed_s": round(reply.elapsed_s, 4),
        "media": [
            {"modality": medium.modality, "mime_type": medium.mime_type, "path": str(path)}
            for medium, path in zip(reply.media, saved, strict=True)
        ],
        "failures": [{"modality": failure.modality, "error": str(failure.error)} for failure in reply.failures],
    }
