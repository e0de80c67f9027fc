"""One of the answers to a job: takes logits step by step, and says what became visible."""

# V vocabulary, D backbone width

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from graph.errors import AnyplexError, Internal
from graph.messages import DecodedText, DecodeEvent, DecodeFinished, FinishReason, SignalBlock, TokenLogprob
from services.backbone.detokenizer import Detokenizer, StopScanner
from services.backbone.engine import Job
from services.backbone.sampling import logprob_of, make_sampler
from services.runtime.tensors import from_torch

if TYPE_CHECKING:
    import torch


class Answer:
    """The state of one answer.

    Args:
        job: What it answers.
        choice: Which of the n answers it is.

    Attributes:
        produced_ids: Its tokens so far, those produced elsewhere too.
        last_id: The token to feed next.
        next_position: Its position.
        done: Whether it ended.
        error: Why it failed, if it did.
    """

    def __init__(self, job: Job, choice: int) -> None:
        self.job = job
        self.choice = choice
        self.produced_ids = list(job.produced_ids)
        self.last_id = 0
        self.next_position = 0
        self.done = False
        self.error: AnyplexError | None = None
        codec = job.backbone.codec
        self._sampler = make_sampler(job.sampling, choice, job.prompt_ids, job.produced_ids)
        visible = [i for i in job.produced_ids if i not in codec.control_ids]
        self._detokenizer = Detokenizer(codec.decode, visible)
        self._scanner = StopScanner(job.sampling.stop)
        self._text = codec.decode(visible)
        self._pending_ids: list[int] = []
        self._pending_logprobs: list[TokenLogprob] = []
        self._forced: deque[int] = deque()
        self._wanted = list(job.force_signals)
        self._signal = ""
        self._states: list[torch.Tensor] = []
        self._blocks = 0
        # What it spelt may have been the beginning of a stop string.
        self._scanner.push(self._text)

    @property
    def is_plain(self) -> bool:
        """Whether the likeliest token is the next one, whatever came before."""
        return self._sampler.is_plain

    def step(
        self, logits_V: torch.Tensor, likeliest: int, state_D: torch.Tensor | None, queue_s: float
    ) -> list[DecodeEvent]:
        """Take the logits of the next position; return what became visible.

        Args:
            logits_V: Float32 logits.
            likeliest: Their argmax.
            state_D: The last hidden state of the position they come from.
            queue_s: How long the job waited.
        """
        if not bool(logits_V[likeliest].isfinite()):
            self.done, self.error = True, Internal("the backbone gave NaN or Inf")
            return []
        token = self._next_id(logits_V, likeliest)
        self.last_id = token
        self.produced_ids.append(token)
        self._sampler.counts[token] += 1
        if token in self.job.backbone.stop_ids:
            return self._finish("stop", queue_s)
        self._pending_ids.append(token)
        if self.job.sampling.logprobs is not None:
            self._pending_logprobs.append(logprob_of(logits_V, token, self.job.sampling.logprobs))
        events = self._see(token, state_D)
        if self._scanner.stopped:
            return events + self._finish("stop", queue_s)
        if len(self.produced_ids) >= self.job.sampling.max_tokens:
            return events + self._finish("length", queue_s)
        return events

    def _next_id(self, logits_V: torch.Tensor, likeliest: int) -> int:
        if self._forced:
            return self._forced.popleft()
        token = likeliest if self.is_plain else self._sampler.choose(logits_V)
        if token in self.job.backbone.stop_ids and self._wanted:
            # The model would end, and a block that must come has not: it is fed instead.
            token = self.job.backbone.codec.signal_ids[self._wanted[0]][0]
        return token

    def _see(self, token: int, state_D: torch.Tensor | None) -> list[DecodeEvent]:
        codec = self.job.backbone.codec
        if token not in codec.control_ids:
            return self._show(self._scanner.push(self._detokenizer.push(token)))
        if not self._signal:
            opened = [modality for modality, ids in codec.signal_ids.items() if ids[0] == token]
            if not opened:
                return []
            # The first token of a block brings the others with it.
            self._signal = opened[0]
            self._forced.extend(codec.signal_ids[self._signal][1:])
        if state_D is not None:
            self._states.append(state_D)
        return [] if self._forced else [self._close_block()]

    def _close_block(self) -> SignalBlock:
        import torch

        backbone = self.job.backbone
        embeddings = None
        if backbone.adds_input_embeddings:
            embedded_TD = backbone.embed(backbone.codec.signal_ids[self._signal])
            embeddings = from_torch(embedded_TD, ("tokens", "width"))
        block = SignalBlock(
            self._blocks,
            self._signal,
            from_torch(torch.stack(self._states), ("tokens", "width")),
            embeddings,
            self._text,
            self.choice,
            backbone.codec.signal_ids[self._signal],
        )
        if self._signal in self._wanted:
            self._wanted.remove(self._signal)
        self._blocks += 1
        self._signal, self._states = "", []
        return block

    def _show(self, text: str) -> list[DecodeEvent]:
        if not text:
            return []
        self._text += text
        event = DecodedText(text, tuple(self._pending_ids), tuple(self._pending_logprobs), self.choice)
        self._pending_ids, self._pending_logprobs = [], []
        return [event]

    def _finish(self, reason: FinishReason, queue_s: float) -> list[DecodeEvent]:
        self.done = True
        events = self._show(self._scanner.flush())
        if self._pending_ids:
            # Tokens that spell nothing by themselves: control tokens, half a character.
            events.append(DecodedText("", tuple(self._pending_ids), tuple(self._pending_logprobs), self.choice))
        events.append(DecodeFinished(reason, len(self.produced_ids), queue_s, self.choice))
        return events
