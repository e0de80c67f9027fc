"""The text codec: between words and the ids of one backbone. Nobody else turns text into ids.

What people write is text and never becomes a control token, whatever it spells: the control tokens of a prompt
are exactly those that its chat template wrote.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph.errors import FailedPrecondition, InvalidRequest
from graph.messages import Segment, Turn
from services.artifacts.store import Artifact

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

# Used by decoders that bring no chat template of their own; it is LLaVA 1.5's.
DEFAULT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {{ message['content'] }} "
    "{% elif message['role'] == 'assistant' %}ASSISTANT: {{ message['content'] }} "
    "{% else %}{{ message['content'] }} {% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_MARK = "\x00"
_SEALED = re.compile(r"\x00(\d+)\x00")
_READS_PARTS = re.compile(r"""\[['"]type['"]\]|\.type\b|selectattr\(['"]type['"]""")


@dataclass(frozen=True)
class MediaSlot:
    """The place of one medium in a prompt: the index-th segment of embeddings."""

    index: int


Run = tuple[int, ...] | MediaSlot
"""A stretch of a prompt: token ids, or the place of a medium."""


class TextCodec:
    """Tokenizer, chat template and control tokens of one backbone version.

    Args:
        tokenizer: A fast tokenizer of transformers.
        config: Config of the backbone's artifact: ``media_token``, ``signals``, ``signal_names``,
            ``template_adds_bos``.
        files: The tokenizer's files, for its fingerprint.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        from tokenizers import Tokenizer

        self._hf = tokenizer
        self.backend: Tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.backend.no_padding()
        self.backend.no_truncation()
        self.media_token: str = config.get("media_token") or ""
        self.media_id = self._id_of(self.media_token) if self.media_token else -1
        self.signal_ids = self._signal_families(config)
        self._adds_bos: bool = config.get("template_adds_bos", False)
        self._template = tokenizer.chat_template or DEFAULT_TEMPLATE
        self._reads_parts = bool(_READS_PARTS.search(_default_template(self._template)))
        self.control = self._control_tokens()
        self.control_ids = frozenset(self.control.values())
        self._plain = self._plain_backend()
        self._bos_ids = self._leading_ids()
        pieces = self.backend.get_vocab().items()
        self._longest = max((len(piece) for piece, i in pieces if i not in self.control_ids), default=1)
        self.fingerprint = _fingerprint(files, config)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> TextCodec:
        """Build the codec of a backbone's artifact.

        Raises:
            FailedPrecondition: The artifact has no tokenizer, or one that cannot be read.
        """
        names = sorted(artifact.file_digests)
        if "tokenizer.json" not in names:
            raise FailedPrecondition(f"artifact {artifact.version} has no tokenizer.json")
        files = {name: artifact.read_file(name) for name in names}
        try:
            tokenizer = load_tokenizer(files, artifact.config.get("decoder", {}))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise FailedPrecondition(f"artifact {artifact.version}: its tokenizer cannot be read") from error
        return cls(tokenizer, artifact.config, files)

    @property
    def eos_id(self) -> int | None:
        """The tokenizer's own end token, if it has one."""
        eos = self._hf.eos_token
        return None if eos is None else self.backend.token_to_id(str(eos))

    def encode(self, turns: Sequence[Turn], raw: bool, most_tokens: int) -> list[Run]:
        """Turn a conversation into runs of ids and places of media.

        Args:
            turns: The conversation.
            raw: Leave the chat template out.
            most_tokens: Prompts certain to be longer are refused before they are tokenized.

        Raises:
            InvalidRequest: NUL, lone surrogates, nothing at all, too long, or a conversation that the template
                refuses.
        """
        turns = [Turn(turn.role, tuple(_joined(turn.segments))) for turn in turns]
        sealed = _Sealed(turns)
        check_text(sealed.texts)
        least = sum(len(text) for text in sealed.texts) // self._longest
        if least > most_tokens:
            raise InvalidRequest(f"prompt of at least {least} tokens, at most {most_tokens} expected", "turns")
        skeleton = self._write(turns, sealed, raw, sealed.everything)
        if not self._spells_control(sealed.texts):
            # The usual way: one string, tokenized as a whole, as transformers does it.
            written = self._write(turns, sealed, raw, sealed.not_text)
            runs = self._runs(written, sealed, raw, literal=False)
            if self._controls(runs) == self._template_controls(skeleton, sealed, raw):
                return self._checked(runs, sealed)
        return self._checked(self._runs(skeleton, sealed, raw, literal=True), sealed)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text, control tokens left out."""
        return self.backend.decode([i for i in ids if i not in self.control_ids], skip_special_tokens=False)

    # ---- writing the conversation as one string ----------------------------------------------------------

    def _write(self, turns: Sequence[Turn], sealed: _Sealed, raw: bool, seal: Mapping[int, str]) -> str:
        """Render a conversation, segments in ``seal`` replaced by their marks."""
        at = iter(range(len(sealed.segments)))
        if raw:
            return "".join(self._word(sealed, next(at), seal) for turn in turns for _ in turn.segments)
        messages: list[dict[str, Any]] = []
        for turn in turns:
            words = [(segment, self._word(sealed, next(at), seal)) for segment in turn.segments]
            content: str | list[dict[str, str]] = "".join(word for _, word in words)
            if self._reads_parts:
                content = [_as_part(segment, word) for segment, word in words]
            messages.append({"role": turn.role, "content": content})
        return self._render(messages)

    def _word(self, sealed: _Sealed, index: int, seal: Mapping[int, str]) -> str:
        segment = sealed.segments[index]
        if segment.embeddings is not None and self.media_token:
            return self.media_token
        return seal.get(index) or segment.text or ""

    def _render(self, messages: list[dict[str, Any]]) -> str:
        from jinja2 import TemplateError

        goes_on = messages[-1]["role"] == "assistant"
        try:
            return str(
                self._hf.apply_chat_template(
                    messages,
                    chat_template=_default_template(self._template),
                    tokenize=False,
                    add_generation_prompt=not goes_on,
                    continue_final_message=goes_on,
                )
            )
        except TemplateError as error:
            raise InvalidRequest(f"the chat template refuses this conversation: {error}", "turns") from error
        except (TypeError, ValueError, KeyError) as error:
            raise InvalidRequest("the chat template cannot write this conversation", "turns") from error

    # ---- from the string to ids --------------------------------------------------------------------------

    def _runs(self, written: str, sealed: _Sealed, raw: bool, *, literal: bool) -> list[Run]:
        adds_bos = raw or self._adds_bos
        pieces = _SEALED.split(written)
        if len(pieces) == 1 and not literal:
            return self._split_media(self.backend.encode(written, add_special_tokens=adds_bos).ids, 0)
        runs: list[Run] = [self._bos_ids] if adds_bos and self._bos_ids else []
        media = 0
        for place, piece in enumerate(pieces):
            if place % 2 == 0:
                found = self._split_media(self.backend.encode(piece, add_special_tokens=False).ids, media)
            else:
                found = self._sealed_runs(sealed.segments[int(piece)], media)
            media += sum(isinstance(run, MediaSlot) for run in found)
            runs += found
        return runs

    def _split_media(self, ids: Sequence[int], first: int) -> list[Run]:
        runs: list[Run] = []
        start = 0
        for place, token in enumerate(ids):
            if token == self.media_id:
                if place > start:
                    runs.append(tuple(ids[start:place]))
                runs.append(MediaSlot(first))
                first, start = first + 1, place + 1
        if len(ids) > start:
            runs.append(tuple(ids[start:]))
        return runs

    def _sealed_runs(self, segment: Segment, media: int) -> list[Run]:
        if segment.embeddings is not None:
            return [MediaSlot(media)]
        ids = segment.token_ids if segment.token_ids is not None else self._literal(segment.text or "")
        return [tuple(ids)] if ids else []

    def _literal(self, text: str) -> tuple[int, ...]:
        """Tokenize text in which nothing is a control token."""
        ids = tuple(self._plain.encode(text, add_special_tokens=False).ids)
        if not self.control_ids.isdisjoint(ids):
            # Some models have control tokens as ordinary pieces: characters by themselves spell none.
            ids = tuple(i for char in text for i in self._plain.encode(char, add_special_tokens=False).ids)
        if not self.control_ids.isdisjoint(ids):
            raise InvalidRequest("text that this backbone cannot read as plain text", "turns")
        return ids

    def _checked(self, runs: list[Run], sealed: _Sealed) -> list[Run]:
        slots = sum(isinstance(run, MediaSlot) for run in runs)
        if slots != sealed.n_media:
            raise InvalidRequest(
                f"the chat template has {slots} places for {sealed.n_media} media; does it know their modality?",
                "turns",
            )
        if not runs:
            raise InvalidRequest("a prompt of 0 tokens, at least 1 expected", "turns")
        return runs

    def _spells_control(self, texts: Iterable[str]) -> bool:
        return any(name in text for text in texts for name in self.control)

    def _controls(self, runs: Iterable[Run]) -> Counter[int]:
        """Count control tokens; a place of a medium counts as one."""
        counts: Counter[int] = Counter()
        for run in runs:
            counts.update([self.media_id] if isinstance(run, MediaSlot) else [i for i in run if i in self.control_ids])
        return counts

    def _template_controls(self, skeleton: str, sealed: _Sealed, raw: bool) -> Counter[int]:
        """Count the control tokens that come from the template, and from segments of ids: the caller's business."""
        pieces = _SEALED.split(skeleton)
        runs: list[Run] = [self._bos_ids] if raw or self._adds_bos else []
        for piece in pieces[::2]:
            runs += self._split_media(self.backend.encode(piece, add_special_tokens=False).ids, 0)
        for mark in pieces[1::2]:
            segment = sealed.segments[int(mark)]
            runs.append(MediaSlot(0) if segment.embeddings is not None else segment.token_ids or ())
        return self._controls(runs)

    # ---- tables ------------------------------------------------------------------------------------------

    def _signal_families(self, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Ids of every modality's signal tokens; ``signal_names`` says what they are called: "[IMG{}]"."""
        names = config.get("signal_names", {})
        families = {
            modality: tuple(
                self._id_of(names.get(modality, f"<|{modality}_{{}}|>").replace("{}", str(index)))
                for index in range(count)
            )
            for modality, count in config.get("signals", {}).items()
        }
        ids = [number for family in families.values() for number in family]
        if len(set(ids)) < len(ids) or any(not family for family in families.values()):
            raise FailedPrecondition("signals: at least one token for each modality expected, and none for two")
        return families

    def _id_of(self, token: str) -> int:
        number = self.backend.token_to_id(token)
        if number is None:
            raise FailedPrecondition(f"the tokenizer has no token {token!r}")
        return int(number)

    def _control_tokens(self) -> dict[str, int]:
        control = {
            token.content: number for number, token in self.backend.get_added_tokens_decoder().items() if token.special
        }
        if self.media_token:
            control[self.media_token] = self.media_id
        for ids in self.signal_ids.values():
            control |= {str(self.backend.id_to_token(number)): number for number in ids}
        return control

    def _plain_backend(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tables = json.loads(self.backend.to_str())
        for token in tables.get("added_tokens", []):
            token["special"] = token["id"] in self.control_ids
        plain = Tokenizer.from_str(json.dumps(tables))
        plain.encode_special_tokens = True
        return plain

    def _leading_ids(self) -> tuple[int, ...]:
        bare = self.backend.encode("a", add_special_tokens=False).ids
        dressed = self.backend.encode("a", add_special_tokens=True).ids
        extra = len(dressed) - len(bare)
        leading = next((n for n in range(extra + 1) if dressed[n : n + len(bare)] == bare), 0)
        return tuple(dressed[:leading])


class _Sealed:
    """The segments of a conversation, numbered, and the marks that stand for them in a template."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.segments = [segment for turn in turns for segment in turn.segments]
        self.texts = [segment.text for segment in self.segments if segment.text]
        self.n_media = sum(segment.embeddings is not None for segment in self.segments)
        self.everything = {
            index: f"{_MARK}{index}{_MARK}"
            for index, segment in enumerate(self.segments)
            if segment.text or segment.text is None
        }
        self.not_text = {i: mark for i, mark in self.everything.items() if self.segments[i].text is None}


def check_text(texts: Iterable[str]) -> None:
    """Refuse text that no tokenizer should see.

    Raises:
        InvalidRequest: NUL or a lone surrogate.
    """
    for text in texts:
        if _MARK in text:
            raise InvalidRequest("NUL in text", "turns")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest("a lone surrogate in text", "turns") from error


def _joined(segments: Iterable[Segment]) -> list[Segment]:
    """Join texts that follow each other: a control token may not be spelt by two of them together."""
    out: list[Segment] = []
    for segment in segments:
        if segment.text is not None and out and out[-1].text is not None:
            out[-1] = Segment(text=out[-1].text + segment.text)
        elif segment.text != "":
            out.append(segment)
    return out


def _as_part(segment: Segment, word: str) -> dict[str, str]:
    if segment.embeddings is not None and _MARK not in word:
        return {"type": segment.modality or "image"}
    return {"type": "text", "text": word}


def _default_template(template: str | Mapping[str, str]) -> str:
    return template if isinstance(template, str) else template["default"]


def _fingerprint(files: Mapping[str, bytes], config: Mapping[str, Any]) -> str:
    tokens = [config.get("media_token"), config.get("signals", {})]
    # Only where they are named: backbones that name none keep the fingerprint they had.
    tokens += [config["signal_names"]] if "signal_names" in config else []
    digest = hashlib.sha256(json.dumps(tokens).encode())
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return digest.hexdigest()[:20]


def load_tokenizer(files: Mapping[str, bytes], decoder: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """Build the tokenizer of an artifact's files, as transformers would from a checkpoint; no network, no code.

    Raises:
        OSError, ValueError: The files make no tokenizer.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory(prefix="tokenizer-") as scratch:
        directory = Path(scratch)
        for name, data in files.items():
            (directory / name).write_bytes(data)
        # Which class reads the files may depend on the model they belong to.
        (directory / "config.json").write_text(json.dumps(dict(decoder)))
        if "tokenizer_config.json" in files:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                scratch, local_files_only=True, trust_remote_code=False
            )
        else:
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))  # type: ignore[no-untyped-call]
    if not tokenizer.is_fast:
        raise ValueError("a fast tokenizer (tokenizer.json) expected")
    return tokenizer
