"""``anyplex ask``: one question, with media or without; the answer is printed as it comes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from services.cli.connect import Connection, connection_options
from services.cli.exits import Exit
from services.cli.output import Progress, print_json, table

if TYPE_CHECKING:
    from anyplex import EventStream, Medium, Parts, Reply, RequestOptions


_EXAMPLES = """\b
Examples:
  anyplex ask "What is this?" --image cat.png
  anyplex ask "What changed?" -i before.png -i after.png --system llava-1.5 --json
"""


@click.command(epilog=_EXAMPLES)
@click.argument("words", nargs=-1, metavar="TEXT")
@click.option("--image", "-i", "images", multiple=True, metavar="FILE", help="A picture; may be given several times.")
@click.option("--audio", "audios", multiple=True, metavar="FILE", help="A sound; likewise.")
@click.option("--video", "videos", multiple=True, metavar="FILE", help="A film; likewise.")
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
    words: tuple[str, ...],
    images: tuple[str, ...],
    audios: tuple[str, ...],
    videos: tuple[str, ...],
    deadline_s: float,
    out: Path,
    timings: bool,
    as_json: bool,
    connection: Connection,
    **choices: str | float | None,
) -> int:
    """Ask something; the answer streams to stdout. TEXT may be - to read it from stdin."""
    parts = _parts(words, images, audios, videos)
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


def _parts(words: tuple[str, ...], images: tuple[str, ...], audios: tuple[str, ...], videos: tuple[str, ...]) -> Parts:
    """Return media first, then the text."""
    from anyplex import Audio, Image, Video

    text = " ".join(words)
    if text == "-":
        text = sys.stdin.read()
    media: list[Medium] = [*map(Image, images), *map(Audio, audios), *map(Video, videos)]
    if not text.strip() and not media:
        raise click.UsageError("nothing to ask: give a text, --image, --audio or --video")
    return [*media, text] if text.strip() else list(media)


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
