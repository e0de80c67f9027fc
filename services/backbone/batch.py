"""Answers that decode together: one row each of a batch padded on the left, keys and values kept between steps."""

# B rows, T tokens, V vocabulary, D backbone width

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from services.backbone.answer import Answer
from services.backbone.engine import Job, MediaRun
from services.backbone.loaded import LoadedBackbone
from services.modules.lora import use_adapter

if TYPE_CHECKING:
    from transformers import DynamicCache


@dataclass(frozen=True)
class Prefilled:
    """A prompt that was read.

    Attributes:
        cache: Its keys and values, one row.
        logits: Logits of the next position, V.
        states: Last hidden states, TD, of the last positions: as many as a signal block may have, and the one before.
            None where the backbone has no signals.
        n_tokens: How many tokens were read.
        next_position: Position of the next one.
    """

    cache: DynamicCache
    logits: torch.Tensor
    states: torch.Tensor | None
    n_tokens: int
    next_position: int


@torch.inference_mode()
def prefill(job: Job) -> Prefilled:
    """Read the prompt of a job, and the tokens of its answer that were produced elsewhere."""
    from transformers import DynamicCache

    backbone = job.backbone
    pieces_TD: list[torch.Tensor] = []
    positions: list[torch.Tensor] = []
    at = 0
    for run in (*job.prompt, job.produced_ids):
        if isinstance(run, MediaRun):
            piece_TD = run.embeddings.to(backbone.device, backbone.dtype)
        elif run:
            piece_TD = backbone.embed(run, job.adapter)
        else:
            continue
        shared = isinstance(run, MediaRun) and run.shared_position
        step = 0 if shared else 1
        positions.append(at + step * torch.arange(len(piece_TD)))
        at += 1 if shared else len(piece_TD)
        pieces_TD.append(piece_TD)
    embeddings_1TD = torch.cat(pieces_TD)[None]
    n_tokens = embeddings_1TD.shape[1]
    cache = DynamicCache()
    with _adapter(backbone, job.adapter):
        output = _forward(
            backbone,
            {"inputs_embeds": embeddings_1TD},
            torch.ones(1, n_tokens, dtype=torch.long),
            torch.cat(positions)[None],
            cache,
        )
    states_TD = _states(output)[0, -backbone.longest_block - 1 :].cpu() if backbone.signal_ids else None
    return Prefilled(cache, _next_logits(backbone, output)[0], states_TD, n_tokens, at)


class Batch:
    """The answers of one version and adapter.

    Args:
        backbone: The version.
        adapter: Version of the adapter, "" for none.
    """

    def __init__(self, backbone: LoadedBackbone, adapter: str) -> None:
        self.backbone = backbone
        self.adapter = adapter
        self.answers: list[Answer] = []
        self._cache: DynamicCache | None = None
        self._lengths: list[int] = []

    @torch.inference_mode()
    def add(self, answer: Answer, prompt: Prefilled) -> None:
        """Let an answer join, its prompt read and its first token chosen."""
        longest = max([*self._lengths, prompt.n_tokens])
        # First what may fail for want of memory: the others decode on as they were.
        self._cache = _merged([c for c in (self._cache, prompt.cache) if c is not None], longest)
        answer.next_position = prompt.next_position
        self.answers.append(answer)
        self._lengths.append(prompt.n_tokens)

    @torch.inference_mode()
    def keep(self, wanted: list[bool]) -> None:
        """Let the answers leave that are not wanted, and cut off padding that nobody needs any more."""
        if all(wanted):
            return
        rows = [row for row, stays in enumerate(wanted) if stays]
        self.answers = [self.answers[row] for row in rows]
        self._lengths = [self._lengths[row] for row in rows]
        if not rows or self._cache is None:
            self._cache = None
            return
        index, longest = torch.tensor(rows, device=self.backbone.device), max(self._lengths)
        for layer in self._cache.layers:
            _cut(layer, index, longest)

    @torch.inference_mode()
    def step(self) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor | None]]:
        """Run one model step.

        Returns:
            Float32 logits BV, their argmax B, and each row's last hidden state where the backbone has signals.
        """
        if self._cache is None:
            raise RuntimeError("a step of an empty batch")
        longest = max(self._lengths) + 1
        lengths_B = torch.tensor(self._lengths) + 1
        mask_BT = (torch.arange(longest) >= longest - lengths_B[:, None]).long()
        ids_B1 = torch.tensor([[answer.last_id] for answer in self.answers])
        positions_B1 = torch.tensor([[answer.next_position] for answer in self.answers])
        with _adapter(self.backbone, self.adapter):
            output = _forward(self.backbone, {"input_ids": ids_B1}, mask_BT, positions_B1, self._cache)
        self._lengths = [length + 1 for length in self._lengths]
        for answer in self.answers:
            answer.next_position += 1
        logits_BV = _next_logits(self.backbone, output)
        states: list[torch.Tensor | None] = [None] * len(self.answers)
        if self.backbone.signal_ids:
            states = list(_states(output)[:, -1].cpu())
        return logits_BV, logits_BV.argmax(-1), states

    @torch.inference_mode()
    def feed(self, answer: Answer) -> tuple[torch.Tensor, torch.Tensor]:
        """Feed a signal block of one answer in one forward pass; the others wait for it.

        Returns:
            Float32 logits V of the position after it, and the last hidden states TD of its own positions.
        """
        row, ids = self.answers.index(answer), answer.feed
        if self._cache is None:
            raise RuntimeError("a block for an empty batch")
        alone, length = _rows(self._cache, slice(row, row + 1), self._lengths[row]), self._lengths[row] + len(ids)
        positions_1T = answer.next_position + torch.arange(len(ids))[None]
        with _adapter(self.backbone, self.adapter):
            mask_1T = torch.ones(1, length, dtype=torch.long)
            output = _forward(self.backbone, {"input_ids": torch.tensor([ids])}, mask_1T, positions_1T, alone)
        lengths = [*self._lengths[:row], length, *self._lengths[row + 1 :]]
        before, after = (_rows(self._cache, rows) for rows in (slice(row), slice(row + 1, None)))
        parts = [before] * (row > 0) + [alone] + [after] * (row + 1 < len(lengths))
        self._cache, self._lengths = _merged(parts, max(lengths)), lengths
        answer.next_position += len(ids)
        return _next_logits(self.backbone, output)[0], _states(output)[0].cpu()


def _adapter(backbone: LoadedBackbone, adapter: str) -> AbstractContextManager[None]:
    return use_adapter(backbone.model, adapter or None)


def _forward(
    backbone: LoadedBackbone,
    inputs: dict[str, torch.Tensor],
    mask_BT: torch.Tensor,
    positions_BT: torch.Tensor,
    cache: DynamicCache,
) -> Any:  # noqa: ANN401 - every family of decoders has an output class of its own
    optional: dict[str, Any] = {"position_ids": positions_BT.to(backbone.device), "logits_to_keep": 1}
    return backbone.model(
        **{name: tensor.to(backbone.device) for name, tensor in inputs.items()},
        attention_mask=mask_BT.to(backbone.device),
        past_key_values=cache,
        use_cache=True,
        output_hidden_states=bool(backbone.signal_ids),
        **{name: optional[name] for name in backbone.arguments},
    )


def _next_logits(backbone: LoadedBackbone, output: Any) -> torch.Tensor:  # noqa: ANN401
    """Float32 logits BV of the next position, without the tokens that are only ever forced."""
    logits_BV: torch.Tensor = output.logits[:, -1].float().cpu()
    if backbone.forced_only_ids:
        logits_BV = logits_BV.index_fill(-1, torch.tensor(backbone.forced_only_ids), float("-inf"))
    return logits_BV


def _states(output: Any) -> torch.Tensor:  # noqa: ANN401
    """Last hidden states BTD as transformers gives them: behind the decoder's final norm, what the head reads."""
    states_BTD: torch.Tensor = output.hidden_states[-1]
    return states_BTD


def _merged(caches: list[DynamicCache], longest: int) -> DynamicCache:
    """Return one cache with the rows of all, padded on the left to the longest."""
    from transformers import DynamicCache

    merged = DynamicCache()
    for index in range(len(caches[0].layers)):
        pairs = [_states_of(cache.layers[index]) for cache in caches]
        keys = torch.cat([_padded(keys, longest) for keys, _ in pairs])
        values = torch.cat([_padded(values, longest) for _, values in pairs])
        merged.update(keys, values, index)
    return merged


def _rows(cache: DynamicCache, rows: slice, length: int | None = None) -> DynamicCache:
    """Return some rows of a cache, cut to their last positions."""
    from transformers import DynamicCache

    taken = DynamicCache()
    for index, layer in enumerate(cache.layers):
        keys, values = _states_of(layer)
        start = 0 if length is None else keys.shape[-2] - length
        taken.update(keys[rows, :, start:], values[rows, :, start:], index)
    return taken


def _states_of(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ANN401 - layers of caches vary
    return layer.keys, layer.values


def _cut(layer: Any, index: torch.Tensor, longest: int) -> None:  # noqa: ANN401
    layer.keys, layer.values = layer.keys[index, :, -longest:], layer.values[index, :, -longest:]


def _padded(states: torch.Tensor, longest: int) -> torch.Tensor:
    missing = longest - states.shape[-2]
    return F.pad(states, (0, 0, missing, 0)) if missing else states
