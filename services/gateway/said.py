"""What an answer of a conversation leaves behind: its text and what was made with it, as a turn of the assistant."""

from __future__ import annotations

from collections.abc import Collection, MutableSequence

from anyplex.v1 import gateway_pb2, types_pb2

KEPT_MEDIA = 4
"""So many times the largest inline medium all that was made in a conversation may take; the oldest goes first."""


class Said:
    """Collects the first answer of a turn.

    Args:
        readable: Modalities that the system reads; others could not be handed in again.
        medium_bytes: Largest medium that is remembered.
    """

    def __init__(self, readable: Collection[str], medium_bytes: int) -> None:
        self._readable = readable
        self._medium_bytes = medium_bytes
        self._text: list[str] = []
        self._making: dict[int, types_pb2.Media] = {}
        self._made: dict[int, types_pb2.Media] = {}

    def take(self, event: gateway_pb2.Event) -> None:
        """Take in what happens; of several answers the first one is remembered."""
        if event.choice:
            return
        match event.WhichOneof("event"):
            case "text":
                self._text.append(event.text.text)
            case "media_started" if event.media_started.modality in self._readable:
                begun = event.media_started
                self._making[begun.media_index] = types_pb2.Media(modality=begun.modality, mime_type=begun.mime_type)
            case "media_chunk" if event.media_chunk.media_index in self._making:
                self._add(event.media_chunk)

    def _add(self, chunk: gateway_pb2.MediaChunk) -> None:
        media = self._making[chunk.media_index]
        if len(media.inline) + len(chunk.data) > self._medium_bytes:
            del self._making[chunk.media_index]
            return
        media.inline += chunk.data
        if chunk.last:
            self._made[chunk.media_index] = self._making.pop(chunk.media_index)

    def message(self) -> types_pb2.Message | None:
        """Return what was said and made so far, whole media alone; None where there is nothing."""
        text = "".join(self._text)
        parts = [types_pb2.Part(text=text)] if text else []
        parts += [types_pb2.Part(media=media) for _, media in sorted(self._made.items())]
        return types_pb2.Message(role=types_pb2.ROLE_ASSISTANT, parts=parts) if parts else None


def forget_oldest(messages: MutableSequence[types_pb2.Message], most_bytes: int) -> None:
    """Take the oldest of what was made out of a conversation until the rest is no larger than that."""
    made = [message for message in messages if message.role == types_pb2.ROLE_ASSISTANT]
    size_bytes = sum(len(part.media.inline) for message in made for part in message.parts)
    for message in made:
        for index in reversed(range(len(message.parts))):
            if size_bytes <= most_bytes:
                return
            inline_bytes = len(message.parts[index].media.inline)
            if inline_bytes:
                size_bytes -= inline_bytes
                del message.parts[index]
        if not message.parts:
            # a turn has to say something
            message.parts.add(text="…")
