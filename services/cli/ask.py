"""``anyplex ask``: one question, with media or without; the answer is printed as it comes."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from services.cli.bars import MediaBars
from services.cli.connect import Connection, connection_options
from services.cli.exits import Exit, exit_code
from services.cli.given import InOrder, given, parts_of
from services.cli.made import Saver, check_folder
from services.cli.output import Progress, print_json, table
from services.cli.wanted import WantedMedia, size_px

if TYPE_CHECKING:
    from anyplex import EventStream, Reply, RequestOptions


_EXAMPLES = """\b
Examples:
  anyplex ask "What is this?" --image cat.png
  anyplex ask -i before.png -i after.png "What changed?" --system llava-1.5 --json
  anyplex ask --audio beeps.wav "How many beeps are there?"
  anyplex ask --video clip.mp4 --speak question.wav
  anyplex ask "draw a red circle and play two high beeps" --out made
  anyplex ask --image cat.png "make it blue" --want image --seed 3
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
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for made media; else this one.")
@click.option("--want", default="", metavar="MODALITIES", help="What must come: image, or image,audio.")
@click.option("--steps", type=int, help="Denoising steps of media.")
@click.option("--guidance", "guidance_scale", type=float, help="How closely media keep to what was asked; 1 is off.")
@click.option("--size", "size_px", callback=size_px, metavar="WxH", help="Of pictures and films, in pixels.")
@click.option("--frames", type=int, help="Of films.")
@click.option("--seconds", type=float, help="Of sounds.")
@click.option("--gif", is_flag=True, help="Films as GIF instead of MP4.")
@click.option("--preview", "preview_every_steps", type=int, metavar="STEPS", help="Save a preview every so many steps.")
@click.option("--timings", is_flag=True, help="Print when each node ran, on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole answer as one JSON object.")
@connection_options
def ask(
    deadline_s: float,
    out: Path | None,
    timings: bool,
    as_json: bool,
    connection: Connection,
    **choices: Any,  # noqa: ANN401 - options of the request and of media, each checked by its own type
) -> int:
    """Ask something; the answer streams to stdout, and media that come with it are written to files.

    Text and media reach the model in the order in which they stand here, speech last. One of them may be - to be
    read from stdin. Where a medium did not come, the exit code says why, and the rest is there nevertheless.
    """
    parts = parts_of(given(click.get_current_context()))
    if out is not None:
        check_folder(out)
    media = WantedMedia(**{field.name: choices.pop(field.name) for field in fields(WantedMedia)})
    options = cast("RequestOptions", {name: value for name, value in choices.items() if value is not None})
    following = Following(out or Path(), as_json=as_json)
    with connection.client() as client, Progress(f"waiting for {client.address}") as progress:
        options.update(cast("RequestOptions", media.options(client, choices["system"])))
        with client.stream(parts, deadline_s=deadline_s, **options) as stream:
            reply = following.follow(stream, progress)
    if as_json:
        print_json(as_dict(reply, following.paths))
    for failure in reply.failures:
        click.echo(f"{failure.modality or 'medium'} did not come: {failure.error}", err=True)
    if timings:
        click.echo(timings_table(reply), err=True)
    return exit_code(reply.failures[0].error) if reply.failures else Exit.OK


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


class Following:
    """Follows an answer: prints its text as it comes, shows how far media are, writes them when they are whole.

    Args:
        folder: Where media go.
        as_json: Say nothing on stdout: the whole answer comes there as JSON.
    """

    def __init__(self, folder: Path, *, as_json: bool) -> None:
        self._prints = not as_json
        self._bars = MediaBars(quiet=as_json)
        self._saver = Saver(folder, self._bars.say if self._prints else lambda line: None)
        self._ended_line = True
        self._one_terminal = sys.stdout.isatty() and sys.stderr.isatty()

    @property
    def paths(self) -> list[Path]:
        """Files of the media, in their order."""
        return [path for _, path in sorted(self._saver.paths.items())]

    def follow(self, stream: EventStream, progress: Progress) -> Reply:
        """Read an answer to its end."""
        from anyplex import AnyplexError, MediaStarted, Text

        try:
            for event in stream:
                if isinstance(event, Text) and event.choice == 0 and self._prints:
                    progress.stop()
                    self._print(event.text)
                elif isinstance(event, MediaStarted):
                    progress.stop()
                    self._make_room()
                self._bars.take(event)
                self._saver.take(event)
        except AnyplexError:
            for path in () if self._prints else self.paths:
                click.echo(f"saved {path}", err=True)
            raise
        finally:
            self._bars.stop()
            progress.stop()
        self._end_line()
        reply = stream.reply()
        for text in reply.texts[1:] if self._prints else ():
            click.echo(text)
        return reply

    def _print(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        self._ended_line = text.endswith("\n") if text else self._ended_line

    def _make_room(self) -> None:
        """End the line of text that bars would be drawn over; text that goes elsewhere stays as it is."""
        if self._one_terminal:
            self._end_line()

    def _end_line(self) -> None:
        if not self._ended_line:
            click.echo()
            self._ended_line = True


def as_dict(reply: Reply, saved: list[Path]) -> dict[str, object]:
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
            {
                "modality": medium.modality,
                "mime_type": medium.mime_type,
                "size_bytes": len(medium.data),
                "path": str(path),
            }
            for medium, path in zip(reply.media, saved, strict=True)
        ],
        "failures": [
            {"modality": failure.modality, "code": failure.error.code, "error": str(failure.error)}
            for failure in reply.failures
        ],
    }
