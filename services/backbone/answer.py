"""One of the answers to a job: takes logits step by step, and says what became visible."""

# V vocabulary, D backbone width, T tokens of a signal block

from __future__ import annotations

from typing import TYPE_CHECKING

from graph.errors import AnyplexError, Internal
from graph.messages import DecodedText, DecodeEvent, DecodeFinished, FinishReason, SignalBlock, TokenLogprob
from services.backbone.detokenizer import Detokenizer, StopScanner
from services.backbone.engine import Job
from services.backbone.sampling import logprob_of, make_sampler, without
from services.backbone.signals import SignalGate
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
        feed: The tokens of a signal block to feed next in one forward pass; usually none.
        next_position: Position of what is fed next.
        done: Whether it ended.
        error: Why it failed, if it did.
    """

    def __init__(self, job: Job, choice: int) -> None:
        self.job = job
        self.choice = choice
        self.produced_ids = list(job.produced_ids)
        self.last_id = 0
        self.feed: tuple[int, ...] = ()
        self.next_position = 0
        self.done = False
        self.error: AnyplexError | None = None
        backbone, codec = job.backbone, job.backbone.codec
        # Penalties are about words: what was drawn before must not keep the next picture from being drawn.
        words = [[i for i in ids if i not in backbone.signal_ids] for ids in (job.prompt_ids, job.produced_ids)]
        n_chosen = sum(i not in backbone.forced_only_ids for i in job.produced_ids)
        self._sampler = make_sampler(job.sampling, choice, words[0], words[1], n_chosen)
        visible = [i for i in job.produced_ids if i not in codec.control_ids]
        self._detokenizer = Detokenizer(codec.decode, visible)
        self._scanner = StopScanner(job.sampling.stop)
        # What was spelt elsewhere may have been the beginning of a stop string.
        self._text = self._scanner.push(self._detokenizer.stable)
        self._pending_ids: list[int] = []
        self._pending_logprobs: list[TokenLogprob] = []
        self._gate = SignalGate(codec.signal_ids, job.force_signals, job.text_only, job.produced_ids)
        self._closing = ""
        self._states: list[torch.Tensor] = []

    @property
    def is_plain(self) -> bool:
        """Whether the likeliest token is the next one, whatever came before."""
        return self._sampler.is_plain

    def remember(self, states_TD: torch.Tensor | None) -> None:
        """Take the states of the last positions read, before the first step: those of a block begun elsewhere."""
        if states_TD is not None and self._gate.open:
            self._states = list(states_TD[-self._gate.seen - 1 : -1])

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
        if token in self.job.backbone.signal_ids:
            return self._end_if_due(self._signal(token, state_D), queue_s)
        self._sampler.counts[token] += 1
        if token in self.job.backbone.stop_ids:
            return self._finish("stop", queue_s)
        self._pending_ids.append(token)
        if self.job.sampling.logprobs is not None:
            self._pending_logprobs.append(logprob_of(logits_V, token, self.job.sampling.logprobs))
        shown: list[DecodeEvent] = []
        if token not in self.job.backbone.codec.control_ids:
            shown = self._show(self._scanner.push(self._detokenizer.push(token)))
        return self._end_if_due(shown, queue_s)

    def take_block(self, states_TD: torch.Tensor, queue_s: float) -> list[DecodeEvent]:
        """Take the states of the positions of ``feed``, which was fed; the last one's logits go to ``step``."""
        self._states.extend(states_TD[:-1])
        self.feed = ()
        return self._end_if_due(self._close_block(self._closing), queue_s)

    def _next_id(self, logits_V: torch.Tensor, likeliest: int) -> int:
        gate = self._gate
        if gate.open:
            return gate.rest[0]
        room = self.job.sampling.max_tokens - len(self.produced_ids)
        if gate.wanted and (self._scanner.stopped or room <= gate.owed_tokens):
            # The answer ends here but for the blocks that must come. A number is drawn for every token outside.
            self._sampler.skip(1)
            return gate.opener()
        if barred := gate.barred(room):
            if likeliest in barred or not self.is_plain:
                logits_V = without(logits_V, barred)
            if likeliest in barred:
                likeliest = int(logits_V.argmax())
        token = likeliest if self.is_plain else self._sampler.choose(logits_V)
        # The model would end, and a block that must come has not: it is fed instead.
        return gate.opener() if gate.wanted and token in self.job.backbone.stop_ids else token

    def _signal(self, token: int, state_D: torch.Tensor | None) -> list[DecodeEvent]:
        if state_D is not None:
            self._states.append(state_D)
        closed = self._gate.take(token)
        if closed:
            return self._close_block(closed)
        if self.job.backbone.feeds_blocks:
            rest = self._gate.rest
            self.feed = (token, *rest)
            self.produced_ids.extend(rest)
            self._closing = [self._gate.take(one) for one in rest][-1]
        return []

    def _close_block(self, modality: str) -> list[DecodeEvent]:
        import torch

        backbone = self.job.backbone
        ids = backbone.codec.signal_ids[modality]
        embeddings = None
        if backbone.adds_input_embeddings:
            embeddings = from_torch(backbone.embed(ids, self.job.adapter), ("tokens", "width"))
        states = from_torch(torch.stack(self._states), ("tokens", "width"))
        text_so_far = self._text + self._scanner.held
        block = SignalBlock(self._gate.blocks - 1, modality, states, embeddings, text_so_far, self.choice, ids)
        self._states = []
        return [*self._unspelt(), block]

    def _show(self, text: str) -> list[DecodeEvent]:
        if not text:
            return []
        self._text += text
        event = DecodedText(text, tuple(self._pending_ids), tuple(self._pending_logprobs), self.choice)
        self._pending_ids, self._pending_logprobs = [], []
        return [event]

    def _unspelt(self) -> list[DecodeEvent]:
        """Tell of tokens that spell nothing yet, so that ids come in order: control tokens, half a character."""
        if not self._pending_ids:
            return []
        event = DecodedText("", tuple(self._pending_ids), tuple(self._pending_logprobs), self.choice)
        self._pending_ids, self._pending_logprobs = [], []
        return [event]

    def _end_if_due(self, events: list[DecodeEvent], queue_s: float) -> list[DecodeEvent]:
        if self._gate.open or self.feed:
            return events
        if self._scanner.stopped and not self._gate.wanted:
            return events + self._finish("stop", queue_s)
        if len(self.produced_ids) >= self.job.sampling.max_tokens:
            return events + self._finish("length", queue_s)
        return events

    def _finish(self, reason: FinishReason, queue_s: float) -> list[DecodeEvent]:
        self.done = True
        events = [*self._show(self._scanner.flush()), *self._unspelt()]
        return [*events, DecodeFinished(reason, len(self.produced_ids), queue_s, self.choice)]
