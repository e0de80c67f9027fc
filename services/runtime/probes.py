"""Probes: what a component makes of noise, written down beside the weights, and compared wherever they are loaded.

Digests prove that the bytes are right; a probe proves that what was built of them computes what it did where they
came from: the right code, the right config, the right device. A probe holds a seed instead of inputs and 32 sums with
random signs instead of outputs, so it has some hundred bytes; the relative error of the sums is about that of the
outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graph.errors import FailedPrecondition
from services.artifacts.store import Artifact

if TYPE_CHECKING:
    import numpy as np
    import torch

ANNOTATION = "probe"
SUMS = 32
MOST_VALUES = 2**18
"""Of longer outputs, values at equal distances are taken."""

CHUNK = 2**14
SIGNS_KEY = 0x616E79706C6578
ROOT_3 = math.sqrt(3.0)


class Noise:
    """Inputs that are the same everywhere: drawn from the bits of a counter, not by a library's own distributions.

    Args:
        seed: What they follow from.
    """

    def __init__(self, seed: int) -> None:
        import numpy as np

        self._bits = np.random.Philox(key=seed)

    def values(self, *shape: int) -> torch.Tensor:
        """Draw float32 values of mean 0 and variance 1."""
        import torch

        unit = (self._bits.random_raw(math.prod(shape)) >> 11) * 2.0**-53
        return torch.from_numpy((2.0 * unit - 1.0) * ROOT_3).float().reshape(shape)

    def ids(self, count: int, below: int) -> tuple[int, ...]:
        """Draw whole numbers from 0."""
        return tuple(int(word % below) for word in self._bits.random_raw(count))


@dataclass(frozen=True)
class Probe:
    """What is expected of an artifact.

    Attributes:
        seed: What its inputs follow from.
        shape: Shape of its output.
        sums: The output's sums, in float32.
        tolerance: Relative error that is let pass, by dtype; of other ones only finite values are asked.
        on: Version that an adapter was probed on; "" for all others.
    """

    seed: int
    shape: tuple[int, ...]
    sums: tuple[float, ...]
    tolerance: Mapping[str, float]
    on: str = ""

    @classmethod
    def of(cls, artifact: Artifact) -> Probe | None:
        """Return the probe of an artifact; None where it has none.

        Raises:
            FailedPrecondition: It makes no sense.
        """
        said = artifact.annotations().get(ANNOTATION)
        if said is None:
            return None
        try:
            probe = cls(
                int(said["seed"]), tuple(map(int, said["shape"])), tuple(map(float, said["sums"])),
                {str(dtype): float(most) for dtype, most in said["tolerance"].items()}, str(said.get("on", "")),
            )  # fmt: skip
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FailedPrecondition(f"artifact {artifact.version}: its probe cannot be read") from error
        if len(probe.sums) != SUMS or probe.seed < 0:
            raise FailedPrecondition(f"artifact {artifact.version}: its probe cannot be read")
        return probe

    def annotation(self) -> dict[str, Any]:
        """Return it as it is kept beside the artifact."""
        sums = [float(f"{value:.4g}") for value in self.sums]
        content = {"seed": self.seed, "shape": list(self.shape), "sums": sums, "tolerance": dict(self.tolerance)}
        return content | ({"on": self.on} if self.on else {})

    def error_of(self, output: torch.Tensor) -> float:
        """Return the relative error of an output; infinite where its shape is another one."""
        if tuple(output.shape) != self.shape:
            return math.inf
        off = math.dist(sums_of(output), self.sums)
        return off / max(math.hypot(*self.sums), 1e-9)

    def check(self, output: torch.Tensor, dtype: str, version: str) -> None:
        """Hold an output against what is expected.

        Raises:
            FailedPrecondition: It is another one.
        """
        import torch

        where = f"artifact {version}"
        if not bool(torch.isfinite(output).all()):
            raise FailedPrecondition("its probe gives NaN or Inf", where)
        if tuple(output.shape) != self.shape:
            raise FailedPrecondition(f"its probe gives {list(output.shape)}, {list(self.shape)} expected", where)
        most, error = self.tolerance.get(dtype, math.inf), self.error_of(output)
        if not error <= most:
            raise FailedPrecondition(
                f"its probe is wrong: {error:.2g} off what it was where it was made, at most {most:.2g} in {dtype}",
                where,
            )


def sums_of(output: torch.Tensor) -> tuple[float, ...]:
    """Return sums of an output's values with random signs; their length is about that of the output."""
    import numpy as np

    flat = output.detach().float().cpu().reshape(-1).numpy().astype(np.float64)
    flat = flat[:: max(1, math.ceil(len(flat) / MOST_VALUES))]
    bits, sums = np.random.Philox(key=SIGNS_KEY), np.zeros(SUMS)
    for start in range(0, len(flat), CHUNK):
        chunk = flat[start : start + CHUNK]
        sums += chunk @ _signs(bits, len(chunk))
    return tuple(float(value) for value in sums / math.sqrt(SUMS))


def _signs(bits: np.random.Philox, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a row of +1 and -1 for each bit of a word."""
    import numpy as np

    words = bits.random_raw(count)[:, None] >> np.arange(SUMS, dtype=np.uint64)
    return 1.0 - 2.0 * (words & np.uint64(1)).astype(np.float64)
