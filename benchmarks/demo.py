"""From nothing to answers: how long ``make demo`` takes, and what all its processes hold in memory.

Every run starts a cluster of its own. Resident memory counts pages that processes share once for each of them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._results import Bar, draw, judge, write

ROOT = Path(__file__).resolve().parents[1]
ANSWER = "  → "
END_S = 90.0
RESIDENT_GB = 8.0


class MemoryWatch(threading.Thread):
    """Looks twice a second what a process and all that descend from it hold."""

    def __init__(self, pid: int, begun_s: float) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float, int]] = []
        self._pid, self._begun_s = pid, begun_s
        self._ending = threading.Event()

    def run(self) -> None:
        """Look until told to end."""
        from services.cli.memory import resident_tree

        while not self._ending.wait(0.5):
            processes = resident_tree(self._pid)
            held_gb = sum(process.resident_bytes for process in processes) / 1e9
            self.samples.append((time.monotonic() - self._begun_s, held_gb, len(processes)))

    def end(self) -> None:
        """Stop looking."""
        self._ending.set()
        self.join(timeout=10)


def run_once(command: Sequence[str]) -> dict[str, Any]:
    """Run the demo once; note when answers came.

    Raises:
        RuntimeError: It failed, or answered nothing.
    """
    begun_s = time.monotonic()
    answers_s: list[float] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        watch = MemoryWatch(process.pid, begun_s)
        watch.start()
        for line in process.stdout or ():
            if line.startswith(ANSWER):
                answers_s.append(time.monotonic() - begun_s)
        code = process.wait()
        watch.end()
    if code or not answers_s:
        raise RuntimeError(f"the demo ended with {code} after {len(answers_s)} answers")
    return {
        "first_answer_s": answers_s[0],
        "last_answer_s": answers_s[-1],
        "answers": len(answers_s),
        "end_s": time.monotonic() - begun_s,
        "resident_gb": max((held for _, held, _ in watch.samples), default=0.0),
        "processes": max((count for _, _, count in watch.samples), default=0),
        "memory": [(round(at_s, 2), round(held, 3)) for at_s, held, _ in watch.samples],
    }


def paint(axes: Any, runs: Sequence[dict[str, Any]]) -> None:  # noqa: ANN401
    """Draw memory over time, with the first and last answer of every run."""
    (axis,) = axes
    for index, run in enumerate(runs):
        times_s, held_gb = zip(*run["memory"], strict=True) if run["memory"] else ((), ())
        axis.plot(times_s, held_gb, color=f"C{index}", label=f"run {index + 1}")
        axis.axvline(run["first_answer_s"], color=f"C{index}", linestyle=":")
        axis.axvline(run["last_answer_s"], color=f"C{index}", linestyle="--")
    axis.set_xlabel("seconds (dotted: first answer, dashed: last)")
    axis.set_ylabel("resident, GB")
    axis.set_ylim(bottom=0)
    axis.legend()


def main(arguments: list[str]) -> int:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(prog="demo")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("systems", nargs="*", default=["next-gpt"])
    options = parser.parse_args(arguments)
    command = [sys.executable, "-m", "services.cli.demo", *options.systems]
    runs = [run_once(command) for _ in range(options.runs)]
    names = ("first_answer_s", "last_answer_s", "end_s", "resident_gb", "processes")
    median = {name: statistics.median(run[name] for run in runs) for name in names}
    write("demo", {"systems": options.systems, "median": median, "runs": runs})
    draw("demo", 1, lambda axes: paint(axes, runs))
    print(f"{len(runs)} runs of {', '.join(options.systems)}, medians; {median['processes']:.0f} processes at the most")
    for name, key in (("first answer", "first_answer_s"), ("last answer", "last_answer_s")):
        print(f"{name:44} {median[key]:8.2f} s")
    return judge([
        Bar("everything, from nothing to nothing", median["end_s"], most=END_S, unit="s"),
        Bar("memory of all processes together, at the most", median["resident_gb"], most=RESIDENT_GB, unit="GB"),
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
