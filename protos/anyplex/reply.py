"""A whole answer, put together from its events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from anyplex import events
from anyplex.errors import AnyplexError, Unavailable
from anyplex.media import MadeMedium
from anyplex.requests import Message


@dataclass(frozen=True)
class MediaFailure:
    """A medium that did not come, and why."""

    modality: str
    error: AnyplexError
    choice: int = 0


@dataclass(frozen=True)
class Reply:
    """A whole answer.

    Attributes:
        text: Its text; of the first answer, when ``n`` were asked for.
        texts: The text of each of the ``n`` answers.
        media: Everything that was made, in the order it was begun.
        failures: Media that did not come; the rest of the answer is whole.
        versions: Which version every slot ran.
        timings: When each node ran.
        logprobs: Of the first answer, one for each token, if asked for.
        regions: Places in the media of the request that the answers point to.
        elapsed_s: Time from sending the request to its last event, on this side of the wire.
    """

    text: str
    texts: tuple[str, ...]
    media: tuple[MadeMedium, ...]
    failures: tuple[MediaFailure, ...]
    system: str
    versions: Mapping[str, str]
    usage: events.Usage
    timings: tuple[events.NodeTiming, ...]
    request_id: str
    seed: int
    finish_reason: events.FinishReason
    elapsed_s: float
    first_text_s: float | None = None
    logprobs: tuple[events.TokenLogprob, ...] = ()
    regions: tuple[events.RegionsFound, ...] = ()

    @property
    def images(self) -> list[MadeMedium]:
        """Pictures that were made, in the order in which they were begun."""
        return self._of("image")

    @property
    def audios(self) -> list[MadeMedium]:
        """Sounds that were made."""
        return self._of("audio")

    @property
    def videos(self) -> list[MadeMedium]:
        """Films that were made."""
        return self._of("video")

    def as_message(self) -> Message:
        """Return the answer as a turn of the assistant, for the ``history`` of the next request."""
        media = [medium.as_part() for medium in self.media if medium.choice == 0]
        return Message("assistant", [self.text, *media] if self.text or not media else media)

    def __str__(self) -> str:
        return self.text

    def _of(self, modality: str) -> list[MadeMedium]:
        return [medium for medium in self.media if medium.modality == modality]


@dataclass
class _Making:
    """A medium whose bytes are still coming."""

    modality: str
    mime_type: str
    node: str
    chunks: list[bytes] = field(default_factory=list)
    handle: str = ""
    whole: bool = False


class ReplyBuilder:
    """Collects events into a reply."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first_text_s: float | None = None
        self._accepted: events.Accepted | None = None
        self._finished: events.Finished | None = None
        self._texts: dict[int, list[str]] = {}
        self._logprobs: list[events.TokenLogprob] = []
        self._making: dict[tuple[int, int], _Making] = {}
        self._failures: list[MediaFailure] = []
        self._regions: list[events.RegionsFound] = []

    def add(self, event: events.Event) -> None:
        """Take in the next event."""
        match event:
            case events.Accepted():
                self._accepted = event
            case events.Text():
                self._add_text(event)
            case events.MediaStarted():
                key = (event.choice, event.media_index)
                self._making[key] = _Making(event.modality, event.mime_type, event.node)
            case events.MediaChunk():
                making = self._making.setdefault((event.choice, event.media_index), _Making("", "", event.node))
                making.chunks.append(event.data)
                making.handle = event.handle or making.handle
                making.whole = making.whole or event.last
            case events.MediaFailed():
                failed = self._making.pop((event.choice, event.media_index), None)
                modality = event.modality or (failed.modality if failed else "")
                self._failures.append(MediaFailure(modality, event.error, event.choice))
            case events.RegionsFound():
                self._regions.append(event)
            case events.Finished():
                self._finished = event

    def build(self) -> Reply:
        """Return what came; an answer that was cut off counts as interrupted."""
        accepted, finished = self._accepted, self._finished
        texts = tuple("".join(self._texts.get(choice, [])) for choice in range(max(self._texts, default=0) + 1))
        media = tuple(
            MadeMedium(making.modality, making.mime_type, b"".join(making.chunks), making.node, making.handle, choice)
            for (choice, _), making in sorted(self._making.items(), key=lambda item: item[0])
            if making.whole
        )
        cut_off = [
            MediaFailure(making.modality, Unavailable("the answer ended before it was whole"), choice)
            for (choice, _), making in self._making.items()
            if not making.whole
        ]
        return Reply(
            text=texts[0],
            texts=texts,
            media=media,
            failures=(*self._failures, *cut_off),
            system=accepted.system if accepted else "",
            versions=accepted.versions if accepted else {},
            usage=finished.usage if finished else events.Usage(),
            timings=finished.timings if finished else (),
            request_id=accepted.request_id if accepted else "",
            seed=accepted.seed if accepted else 0,
            finish_reason=finished.reason if finished else "interrupted",
            elapsed_s=time.monotonic() - self._started,
            first_text_s=self._first_text_s,
            logprobs=tuple(self._logprobs),
            regions=tuple(self._regions),
        )

    def _add_text(self, event: events.Text) -> None:
        if self._first_text_s is None:
            self._first_text_s = time.monotonic() - self._started
        self._texts.setdefault(event.choice, []).append(event.text)
        if event.choice == 0:
            self._logprobs.extend(event.logprobs)
