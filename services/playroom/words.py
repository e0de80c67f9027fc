"""The words of the playroom and what they mean in pixels."""

from __future__ import annotations

from typing import Final

SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES: Final = ("small", "large")
PLACES: Final = (
    "top left",
    "top",
    "top right",
    "left",
    "center",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
"""Names of the nine cells in reading order; the index of a name is the index of its cell."""

COLOR_RGB: Final[dict[str, tuple[int, int, int]]] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 80, 220),
    "yellow": (235, 210, 40),
    "purple": (140, 60, 180),
    "orange": (240, 140, 40),
    "cyan": (40, 200, 210),
    "pink": (240, 130, 190),
}
COLORS: Final = tuple(COLOR_RGB)
BACKGROUND_LEVEL: Final[dict[str, int]] = {"white": 245, "gray": 128, "black": 15}
BACKGROUNDS: Final = tuple(BACKGROUND_LEVEL)
NUMBERS: Final = ("zero", "one", "two", "three")

IMAGE_SIDE_PX: Final = 64
CELL_CENTERS_PX: Final = (12, 32, 52)
CELL_SIDE_PX: Final = 20
MAX_SHIFT_PX: Final = 1.0
RADIUS_PX: Final[dict[str, float]] = {"small": 5.0, "large": 8.0}
COLOR_OFFSET: Final = 12
MAX_NOISE_SIGMA: Final = 4.0
MAX_OBJECTS: Final = 3

HELD_OUT_PAIRS: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("purple", "star"),
        ("cyan", "triangle"),
        ("orange", "ring"),
        ("pink", "cross"),
        ("green", "square"),
        ("yellow", "circle"),
    }
)
"""(color, shape) pairs that no training picture shows and no training text beside a picture names."""


def with_article(noun: str) -> str:
    """Puts `a` or `an` before a phrase: `an orange ring`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
