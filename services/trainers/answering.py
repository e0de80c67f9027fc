"""A whole system in one process, greedy, one request at a time: what trainers score with and tests compare to."""

# T tokens, D width

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graph import messages as m
from services.artifacts import Artifact
from services.backbone.tokenizer import load_tokenizer
from services.encoders.picture_reader import PictureReader
from services.encoders.reader import Reader
from services.encoders.sound_reader import SoundReader
from services.input_projectors.models import build_projector
from services.input_projectors.projector import InputProjector
from services.modules.lora import add_adapter, use_adapter
from services.modules.signal_rows import SIGNAL_TENSORS, add_signal_rows
from services.playroom.cases import Case
from services.playroom.media_cases import MediaCase
from services.playroom.studio import Medium
from services.trainers.conversations import Encoder
from services.trainers.results import Weights, float_tensors
from services.trainers.run import load_decoder

ADAPTER = "served"


class WayIn:
    """One modality's encoder and projector."""

    def __init__(self, encoder: Artifact, projector: Artifact) -> None:
        self.reader: Reader[Any] = SoundReader() if encoder.type == "whisper" else PictureReader()
        self.encoder: nn.Module = self.reader.build(encoder.config).eval()
        self.encoder.load_state_dict(float_tensors(encoder))
        self.projector: InputProjector = build_projector(projector.type, projector.config).eval()
        self.projector.load_state_dict(float_tensors(projector))

    def embed(self, medium: m.Media) -> Tensor:
        """Reads, encodes and projects a medium (TD)."""
        reading = self.reader.read(medium, 0, self.encoder)
        outputs_TF = [self.encoder(piece[None])[0] for piece in reading.pieces]
        features, _ = self.reader.join(reading, outputs_TF)
        embedded: Tensor = self.projector(features[None])[0]
        return embedded


class Answerer:
    """The trained parts of a system, put together without any serving."""

    def __init__(self, weights: Weights, system: str) -> None:
        slots = weights.slots(system)
        self.ways_in = {
            modality: WayIn(weights.store.get(slots[slot]), weights.store.get(slots[f"{slot}_in"]))
            for modality, slot in (("image", "see"), ("video", "watch"), ("audio", "hear"))
            if f"{slot}_in" in slots
        }
        backbone = weights.store.get(slots["think"])
        self.decoder = load_decoder(backbone)
        self.decoder.train(False)
        self.tokenizer = load_tokenizer(
            {name: backbone.read_file(name) for name in ("tokenizer.json", "tokenizer_config.json")}
        )
        self.generation: dict[str, Any] = json.loads(backbone.read_file("generation_config.json"))
        self.media_id: int = self.tokenizer.get_vocab()[backbone.config["media_token"]]
        self.adapter: str | None = None
        if "think/lora" in slots:
            self._add_adapter(weights.store.get(slots["think/lora"]), Encoder(backbone.read_file("tokenizer.json")))
            self.adapter = ADAPTER

    def _add_adapter(self, lora: Artifact, words: Encoder) -> None:
        tensors = float_tensors(lora)
        rows = {name: tensors.pop(name) for name in SIGNAL_TENSORS if name in tensors}
        sizes = {name: lora.config[name] for name in ("rank", "alpha", "targets")}
        add_adapter(self.decoder, ADAPTER, **sizes, tensors=tensors)
        if rows:
            add_signal_rows(self.decoder, ADAPTER, words.signal_ids(), rows)

    def embed(self, messages: Sequence[dict[str, Any]], media: Sequence[m.Media]) -> Tensor:
        """Embeds a conversation with its media, one for each placeholder (1TD)."""
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(text, add_special_tokens=False).input_ids
        given = iter([self.ways_in[medium.modality].embed(medium) for medium in media])
        embedding = self.decoder.get_input_embeddings()
        pieces, run = [], []
        for token in ids:
            if token != self.media_id:
                run.append(token)
                continue
            pieces += [embedding(torch.tensor(run, dtype=torch.long)), next(given)]
            run = []
        return torch.cat([*pieces, embedding(torch.tensor(run, dtype=torch.long))]).unsqueeze(0)

    @torch.no_grad()
    def answer(self, messages: Sequence[dict[str, Any]], media: Sequence[m.Media]) -> str:
        """Answers the last message of a conversation."""
        embeddings = self.embed(messages, media)
        eos, ids, cache = self.generation["eos_token_id"], [], None
        with use_adapter(self.decoder, self.adapter):
            for _ in range(self.generation["max_new_tokens"]):
                output = self.decoder(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
                token = int(output.logits[0, -1].argmax())
                if token == eos:
                    break
                ids.append(token)
                cache = output.past_key_values
                embeddings = self.decoder.get_input_embeddings()(torch.tensor([[token]]))
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def ask(self, case: Case | MediaCase) -> str:
        """Answers a case, after the turns before it."""
        if isinstance(case, Case):
            parts: tuple[str | Medium, ...] = (Medium("image", case.mime_type, case.picture), case.prompt)
            turns: list[tuple[str, Sequence[str | Medium]]] = [("user", parts)]
        else:
            turns = []
            for turn in case.earlier:
                turns += [("user", turn.parts), ("assistant", (turn.answer,))]
            turns.append(("user", case.parts))
        messages = [{"role": role, "content": [_content(part) for part in parts]} for role, parts in turns]
        media = [
            m.Media(modality=part.modality, data=part.data)
            for _, parts in turns
            for part in parts
            if isinstance(part, Medium)
        ]
        return self.answer(messages, media)


def _content(part: str | Medium) -> dict[str, str]:
    """One part as the chat template reads it."""
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": part.modality}
