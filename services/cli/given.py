"""Words and media of a command line, in the order in which they were given."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from anyplex import Medium, Parts

STDIN = "-"
# Beyond what any gateway takes: what never ends must not fill the memory.
STDIN_CAP_BYTES = 256 << 20
SPEAK = "--speak"
_META = "services.cli.given"
_WORD = ""
_KINDS = {"--image": "Image", "--audio": "Audio", "--video": "Video", SPEAK: "Audio"}
_ENDINGS = (
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".wav", ".flac", ".mp3", ".ogg", ".opus", ".mp4", ".webm", ".mov",
    ".mkv",
)  # fmt: skip
_OPTION_OF = {"image": "--image", "audio": "--audio", "video": "--video"}


class InOrder(click.Command):
    """A command that remembers the order of words and options, which click keeps apart."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; what it said, in order, is ``given(ctx)`` then."""
        said = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click's parser leaves it out where an option lacks its value
            raise
        ctx.meta[_META] = list(self._in_order(said))
        return rest

    def _in_order(self, args: list[str]) -> Iterator[tuple[str, str]]:
        """Yield words as ("", word) and options with their values; only what click has found right comes here."""
        options = {name: option for option in self.params if isinstance(option, click.Option) for name in option.opts}
        words = iter(args)
        for word in words:
            if word == "--":
                yield from ((_WORD, rest) for rest in words)
            elif word == STDIN or not word.startswith("-"):
                yield _WORD, word
            else:
                name, mark, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
                option = options.get(name)
                if option is not None and not option.is_flag:
                    yield option.opts[0], value if mark else next(words)


def given(ctx: click.Context) -> list[tuple[str, str]]:
    """Return words and options of a command line, in order."""
    found: list[tuple[str, str]] = ctx.meta[_META]
    return found


def parts_of(said: Sequence[tuple[str, str]]) -> Parts:
    """Return text and media as they were given: words that follow each other are one text, speech comes last.

    Raises:
        click.UsageError: There is nothing, or more than can be read from stdin or spoken.
        InvalidRequest: A file is missing, empty, or of another kind; says which option it was given with. Or it was
            given with none.
    """
    said = [(option, value) for option, value in said if option == _WORD or option in _KINDS]
    if sum(value == STDIN for _, value in said) > 1:
        raise click.UsageError("stdin (-) can be read once only")
    if sum(option == SPEAK for option, _ in said) > 1:
        raise click.UsageError(f"{SPEAK} was given twice: the request is one sound")
    parts: list[str | Medium] = []
    words: list[str] = []
    for option, value in sorted(said, key=lambda one: one[0] == SPEAK):
        if option != _WORD:
            _end_text(words, parts)
            parts.append(_medium(option, value))
        else:
            words.append(_text_of_stdin() if value == STDIN else _word(value))
    _end_text(words, parts)
    _note_missing_files([value for option, value in said if option == _WORD])
    if not parts:
        raise click.UsageError(f"nothing to ask: give a text, --image, --audio, --video or {SPEAK}")
    return parts


def _end_text(words: list[str], parts: list[str | Medium]) -> None:
    text = " ".join(words)
    if text.strip():
        parts.append(text)
    words.clear()


def _text_of_stdin() -> str:
    import anyplex

    try:
        return sys.stdin.buffer.read(STDIN_CAP_BYTES).decode()
    except UnicodeDecodeError as error:
        raise anyplex.InvalidRequest("stdin is no text; give it with --image -, --audio - or --video -") from error


def _note_missing_files(words: list[str]) -> None:
    """Say on stderr where a word looks like a file that is not there; it is sent as a word nevertheless."""
    for word in words:
        if word.lower().endswith(_ENDINGS) and not word.split()[1:] and not os.path.exists(word):
            click.echo(f"note: {word} is no file here, and is asked as a word", err=True)


def _word(value: str) -> str:
    """Return a word; a file is none: of ``--audio *.wav`` the shell makes one sound and then words."""
    import anyplex

    # unlike Path.is_file, it takes words that are too long for a name
    if os.path.isfile(value) and (option := _option_of(value)):
        raise anyplex.InvalidRequest(f"{value}: a file where words are expected; give every file an option: {option}")
    return value


def _medium(option: str, value: str) -> Medium:
    import anyplex

    kind = getattr(anyplex, _KINDS[option])
    source = sys.stdin.buffer.read(STDIN_CAP_BYTES) if value == STDIN else value
    if not source:
        raise anyplex.InvalidRequest(f"{option} {value}: empty")
    try:
        medium: Medium = kind(source)
    except anyplex.InvalidRequest as error:
        raise anyplex.InvalidRequest(f"{option} {error}{_hint(option, value)}") from error
    return medium


def _hint(option: str, value: str) -> str:
    """Say which option a file belongs to, if it is of another kind."""
    better = _option_of(value) if value != STDIN else ""
    return f"; give it with {better}" if better and better != option else ""


def _option_of(path: str) -> str:
    """Return the option that a file belongs to, as its first bytes tell; an empty string where they do not."""
    import anyplex

    try:
        found = anyplex.Medium(path, modality="any").mime_type
    except anyplex.InvalidRequest:
        return ""
    return _OPTION_OF.get(found.partition("/")[0], "")


def slots_given(changes: tuple[str, ...]) -> dict[str, str]:
    """Read SLOT=VERSION.

    Raises:
        click.UsageError: One is none.
    """
    slots: dict[str, str] = {}
    for change in changes:
        slot, separator, version = change.partition("=")
        if not (slot and separator and version):
            raise click.UsageError(f"{change!r}: SLOT=VERSION expected")
        slots[slot] = version
    return slots


def numbers_given(numbers: tuple[str, ...], what: str) -> dict[str, float]:
    """Read NAME=NUMBER.

    Raises:
        click.UsageError: One is none.
    """
    found: dict[str, float] = {}
    for given in numbers:
        name, _, number = given.partition("=")
        try:
            found[name] = float(number)
        except ValueError as error:
            raise click.UsageError(f"{given!r}: {what}=NUMBER expected") from error
    return found
