"""The loop that every stage runs in: batches by index, schedule, checkpoints, progress, scores."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from services.trainers.recipe import Budget, Optimizer, Recipe

logger = logging.getLogger(__name__)
BatchT = TypeVar("BatchT")
BatchT_contra = TypeVar("BatchT_contra", contravariant=True)

PROGRESS_EVERY_S = 5.0
_PREFETCH = 4


class TrainingStage(Protocol[BatchT]):
    """What a stage brings to the loop."""

    trained: nn.Module

    def batch_maker(self) -> Callable[[int], BatchT]:
        """Returns a picklable function: index of a batch → the batch, the same every time."""
        ...

    def loss(self, batch: BatchT) -> Tensor:
        """Returns the loss to go down, with its graph."""
        ...

    def score(self, final: bool) -> dict[str, float]:
        """Measures the stage's own figures, more carefully at the end."""
        ...


@dataclass
class Progress:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    samples: int = 0
    train_s: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)


def fraction_done(budget: Budget, progress: Progress) -> float:
    """Share of the budget that is used up, by the limit that is nearest."""
    shares = [0.0]
    if budget.samples is not None:
        shares.append(progress.samples / budget.samples)
    if budget.minutes is not None:
        shares.append(progress.train_s / (60 * budget.minutes))
    return min(1.0, max(shares))


def rate_at(optimizer: Optimizer, fraction: float) -> float:
    """Factor on the learning rate: up, flat, then linearly to zero."""
    if fraction < optimizer.warmup:
        return max(0.02, fraction / optimizer.warmup)
    if fraction <= optimizer.decay_from:
        return 1.0
    return max(0.0, (1.0 - fraction) / (1.0 - optimizer.decay_from))


def make_optimizers(module: nn.Module, recipe: Optimizer) -> list[torch.optim.Optimizer]:
    """Muon for matrices inside blocks, AdamW for embeddings, norms, biases and everything else.

    Source: Jordan et al. 2024 (Muon); Liu et al. 2025, arXiv 2502.16982, for the shared learning rate.
    """
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        is_hidden = recipe.muon and parameter.ndim == 2 and "embed" not in name and "head" not in name
        (hidden if is_hidden else rest).append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    if rest:
        optimizers.append(
            torch.optim.AdamW(rest, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True)
        )
    if hidden:
        optimizers.append(
            torch.optim.Muon(hidden, lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return optimizers


def batches(make: Callable[[int], BatchT], first: int, workers: int) -> Iterator[BatchT]:
    """Makes batches from `first` on, ahead of time in worker processes where there are any."""
    if workers == 0:
        index = first
        while True:
            yield make(index)
            index += 1
    # A child forked beside running threads of OpenMP may wait for locks that nobody holds any more.
    with ProcessPoolExecutor(workers, get_context("forkserver"), _begin_worker) as pool:
        ahead: deque[Future[BatchT]] = deque()
        index = first
        while True:
            while len(ahead) < workers + _PREFETCH:
                ahead.append(pool.submit(make, index))
                index += 1
            yield ahead.popleft().result()


def _begin_worker() -> None:
    """Keeps a worker to one thread, and from outliving the process that it makes batches for."""
    torch.set_num_threads(1)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


class Loop(Generic[BatchT]):
    """Runs one stage to the end of its budget, from its last checkpoint where there is one."""

    def __init__(self, recipe: Recipe, stage: TrainingStage[BatchT], folder: Path, device: torch.device) -> None:
        self.recipe = recipe
        self.stage = stage
        self.folder = folder
        self.device = device
        self.progress = Progress()
        self.optimizers = make_optimizers(stage.trained, recipe.optimizer)
        self._base_rates = [recipe.optimizer.lr for _ in self.optimizers]

    @property
    def checkpoint_path(self) -> Path:
        """File of the last checkpoint."""
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Writes a checkpoint beside the last one, then takes its place."""
        state: dict[str, Any] = {
            "model": self.stage.trained.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": vars(self.progress),
            "rng": torch.get_rng_state(),
        }
        partial = self.checkpoint_path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint_path)

    def resume(self) -> bool:
        """Loads the last checkpoint, if there is one."""
        if not self.checkpoint_path.exists():
            return False
        state = torch.load(self.checkpoint_path, weights_only=True)
        self.stage.trained.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.progress = Progress(**state["progress"])
        torch.set_rng_state(state["rng"])
        return True

    def run(self) -> Progress:
        """Trains until the budget is used up, then scores for good."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.resume():
            logger.info("%s: resumed at step %d", self.recipe.name, self.progress.step)
        else:
            torch.manual_seed(self.recipe.seed)
        feed = batches(self.stage.batch_maker(), self.progress.step, self.recipe.workers)
        last_s = told_s = saved_s = scored_s = time.monotonic()
        told_samples = self.progress.samples
        while fraction_done(self.recipe.budget, self.progress) < 1.0:
            loss, norm = self.step(next(feed))
            now = time.monotonic()
            self.progress.train_s += now - last_s
            last_s = now
            if now - told_s >= PROGRESS_EVERY_S:
                rate = (self.progress.samples - told_samples) / (now - told_s)
                self._tell(float(loss), float(norm), rate)
                told_s, told_samples = now, self.progress.samples
            if now - saved_s >= self.recipe.checkpoint_every_s:
                self.save()
                saved_s = now
            if now - scored_s >= self.recipe.score_every_s:
                self._score(final=False)
                last_s = scored_s = time.monotonic()
        self.save()
        self._score(final=True)
        self.save()
        return self.progress

    def step(self, batch: BatchT) -> tuple[Tensor, Tensor]:
        """Takes one step; returns its loss and the norm of its gradient."""
        fraction = fraction_done(self.recipe.budget, self.progress)
        factor = rate_at(self.recipe.optimizer, fraction)
        for optimizer, base in zip(self.optimizers, self._base_rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * factor
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            loss = self.stage.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [p for p in self.stage.trained.parameters() if p.requires_grad]
        norm = nn.utils.clip_grad_norm_(trained, self.recipe.optimizer.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.samples += self.recipe.batch
        return loss.detach(), norm

    def _tell(self, loss: float, norm: float, rate: float) -> None:
        fraction = fraction_done(self.recipe.budget, self.progress)
        eta_s = self.progress.train_s * (1 - fraction) / max(fraction, 1e-6)
        logger.info(
            "%s: step %d · loss %.4f · gradient %.2f · %.0f samples/s · %.1f %% · %.0f s left",
            self.recipe.name, self.progress.step, loss, norm, rate, 100 * fraction, eta_s,
        )  # fmt: skip

    def _score(self, final: bool) -> None:
        self.stage.trained.eval()
        scores = self.stage.score(final)
        self.stage.trained.train()
        self.progress.scores = scores
        line = {"step": self.progress.step, "train_s": round(self.progress.train_s), **scores}
        with (self.folder / "scores.jsonl").open("a") as out:
            out.write(json.dumps(line) + "\n")
        logger.info("%s: %s", self.recipe.name, json.dumps(line))
