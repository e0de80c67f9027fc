"""``make demo``: starts a system, asks it about what lies in ``examples/``, says what it took, stops it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from services.cli.made import save_as_next
from services.cli.main import guarded
from services.cli.memory import resident_tree
from services.cli.output import Progress, mebibytes, table
from services.cli.temporary import temporary_cluster

if TYPE_CHECKING:
    from anyplex import Client, MadeMedium, Medium, Reply
    from services.deploy.state import ClusterState

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MADE = Path(".runs") / "demo"
"""Folder of what is made, seen from where the demo was started."""

MODALITIES = {
    ".png": "image", ".jpg": "image", ".wav": "audio", ".flac": "audio", ".mp3": "audio", ".ogg": "audio",
    ".mp4": "video", ".webm": "video", ".gif": "video",
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """One question of the demo.

    Attributes:
        answer: What a person would answer.
        question: The words; empty where they are spoken.
        media: Files, in the order in which they are handed in, before the words.
        speech: File in which the words are spoken.
        says: What is said in it.
        makes: What has to be made, by modality: words that its caption has.
        hands_back: Whether the turn begins anew, with what was made in the one before handed in first.
        then: Next question of the same conversation.
    """

    answer: str
    question: str = ""
    media: tuple[str, ...] = ()
    speech: str = ""
    says: str = ""
    makes: Mapping[str, str] = field(default_factory=dict)
    hands_back: bool = False
    then: Question | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All files it hands in, in order."""
        return (*self.media, self.speech) if self.speech else self.media

    def modalities(self) -> set[str]:
        """Return what a system must take to be asked this."""
        back = self.then.makes if self.then is not None and self.then.hands_back else ()
        handed_in = {"text", *(modality_of(name) for name in self.files), *(self.makes if back else ())}
        return handed_in | (self.then.modalities() if self.then else set())

    def outputs(self) -> set[str]:
        """Return what a system must make to be asked this."""
        return {"text", *self.makes} | (self.then.outputs() if self.then else set())

    def parts(self, made: Sequence[MadeMedium] = ()) -> list[str | Medium | MadeMedium]:
        """Return what is sent; what was made in the turn before is handed back where that is asked."""
        from anyplex import Medium

        files = [Medium(EXAMPLES / name, modality=modality_of(name)) for name in self.files]
        parts: list[str | Medium | MadeMedium] = [*(made if self.hands_back else ()), *files]
        return [*parts, self.question] if self.question else parts

    def __str__(self) -> str:
        shown = [*(["[what was made]"] if self.hands_back else []), *(f"[{name}]" for name in self.media)]
        return " ".join([*shown, f'[{self.speech}, says "{self.says}"]' if self.speech else self.question])


def modality_of(name: str) -> str:
    """Return what a file of the examples is, by its ending."""
    return MODALITIES[Path(name).suffix]


def read_questions(path: Path) -> list[Question]:
    """Read what to ask."""
    return [_question(item) for item in yaml.safe_load(path.read_text(encoding="utf-8"))]


def _question(item: dict[str, Any]) -> Question:
    then = _question(item["then"]) if "then" in item else None
    return Question(**{**item, "media": tuple(item.get("media", ())), "then": then})


def main() -> int:
    """Run the demo for the systems that the command line names."""
    started = time.monotonic()
    systems = tuple(sys.argv[1:]) or ("next-gpt",)
    questions = read_questions(EXAMPLES / "questions.yaml")
    click.echo(f"starting {', '.join(systems)}: every component is a process of its own")
    with temporary_cluster(
        systems, "demo", lambda line: click.echo(f"[{time.monotonic() - started:5.1f} s] {line}")
    ) as state:
        first_s = ask_all(state, systems, questions, started)
        _show_cluster(state)
    click.echo(f"\nfirst answer after {first_s:.1f} s, everything after {time.monotonic() - started:.1f} s")
    click.echo('next: anyplex up, then: anyplex ask "what is this?" --image examples/three-shapes-on-gray.png')
    return 0


def ask_all(state: ClusterState, systems: tuple[str, ...], questions: list[Question], started: float) -> float:
    """Ask everything, print it, return when the first answer was there."""
    from anyplex import Client

    first_s = 0.0
    asked = as_expected = 0
    with Client(state.address, token=state.token) as client:
        for system in systems:
            about = client.describe(system).system
            click.echo(f"\n=== {system} (takes {', '.join(about.inputs)}; makes {', '.join(about.outputs)})")
            fitting = [
                question
                for question in questions
                if question.modalities() <= set(about.inputs) and question.outputs() <= set(about.outputs)
            ]
            for question in fitting:
                for step, reply in _answers(client, system, question):
                    first_s = first_s or time.monotonic() - started
                    asked += 1
                    as_expected += _show(step, reply)
            if len(fitting) < len(questions):
                left = len(questions) - len(fitting)
                click.echo(f"\n{left} more questions are about what {system} does not take or make")
    click.echo(f"\n{as_expected} of {asked} answers are what a person would say, word for word, and make")
    return first_s


def _answers(client: Client, system: str, question: Question) -> Iterator[tuple[Question, Reply]]:
    """Ask a question and those that follow it; yield each with its answer."""
    from anyplex import Message

    history: list[Message] = []
    made: Sequence[MadeMedium] = ()
    step: Question | None = question
    while step is not None:
        if step.hands_back and not made:
            click.echo(f"\n{step}\n  → not asked: nothing was made to hand back")
            return
        history = [] if step.hands_back else history
        parts = step.parts(made)
        with Progress(f"asking {system}"):
            reply = client.generate(parts, system=system, history=history, seed=1)
        yield step, reply
        history += [Message("user", parts), reply.as_message()]
        made, step = reply.media, step.then


def _show(question: Question, reply: Reply) -> bool:
    """Print an answer, keep what was made; return whether it is what a person would say and make."""
    text = reply.text.strip()
    expected = "" if text == question.answer else f"   (expected: {question.answer})"
    by_node = ", ".join(f"{timing.node} {1000 * (timing.end_s - timing.start_s):.0f} ms" for timing in reply.timings)
    click.echo(f"\n{question}")
    click.echo(f"  → {text}{expected}")
    right = [_show_medium(medium, question.makes) for medium in reply.media]
    for failure in reply.failures:
        click.echo(f"  → no {failure.modality or 'medium'}: {failure.error}")
    click.echo(f"    {1000 * reply.elapsed_s:.0f} ms in all: {by_node}")
    return not expected and all(right) and sorted(medium.modality for medium in reply.media) == sorted(question.makes)


def _show_medium(medium: MadeMedium, wanted: Mapping[str, str]) -> bool:
    """Write a medium, print where and what the playroom's judge reads in it; return whether that is wanted."""
    from services.playroom import studio
    from services.playroom.making_judges import caption_of_medium

    path = save_as_next(medium, MADE)
    read = caption_of_medium(studio.Medium(medium.modality, medium.mime_type, medium.data))
    is_right = medium.modality in wanted and wanted[medium.modality] in read
    expected = "" if is_right else f"   (expected: {wanted.get(medium.modality, 'none')})"
    click.echo(f"  → {path}: {read or 'nothing that a judge can read'}{expected}")
    return is_right


def _show_cluster(state: ClusterState) -> None:
    """Print components and what everything together holds in memory."""
    from services.deploy.status import component_stats

    rows = [
        (item.component, replica.address, mebibytes(replica.resident_bytes), round(replica.cold_start_s, 1))
        for item in component_stats(state)
        for replica in item.replicas
    ]
    click.echo("\n" + table("", ("component", "replica", "memory", "start s"), rows))
    processes = [*resident_tree(state.pid), *[own for own in resident_tree(os.getpid()) if own.pid == os.getpid()]]
    total = sum({process.pid: process.resident_bytes for process in processes}.values())
    click.echo(f"{len(processes)} processes hold {total / 1e9:.2f} GB together (Ray's and this one included)")


if __name__ == "__main__":
    sys.exit(guarded(main))
