"""What a medium has to show or sound like, with what nobody named left free; its caption, and what differs from it.

An empty word is free: `a red circle` is any size of it, at any place, on any background.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import ClassVar, Final, TypeAlias

from services.playroom.captions import CaptionFacts, join_nouns
from services.playroom.films import Film, FilmFacts
from services.playroom.scenes import Scene
from services.playroom.sounds import SWEEP, Sound, SoundFacts, plural_of
from services.playroom.words import NUMBERS, PLACES, with_article

ANY_SHAPE: Final = "object"
"""How something is called whose shape is free."""
ANY_TIMBRE: Final = "sound"

# What is free and nevertheless settled before a generator is told: whatever concerns a picture or a film as a whole.
# All parts of it would have to agree on a choice, and small generators disagree with themselves; colors, shapes and
# timbres they choose well.
_FREE_PLACES: Final = (
    "center", "left", "right", "top", "bottom", "top left", "top right", "bottom left", "bottom right",
)  # fmt: skip
_FREE_SIZE: Final = "large"
_FREE_BACKGROUND: Final = "white"
_FREE_MOTION: Final = "standing still"


def _fits(wanted: tuple[str, ...], words: tuple[str, ...]) -> bool:
    """Whether every word is the one that is wanted, or free."""
    return all(want in ("", word) for want, word in zip(wanted, words, strict=True))


@dataclass(frozen=True, slots=True)
class WantedObject:
    """An object of a picture; empty words are free."""

    shape: str = ""
    color: str = ""
    size: str = ""
    place: str = ""

    @property
    def words(self) -> str:
        """The object without article and place: `small blue square`, `red object`."""
        return " ".join(word for word in (self.size, self.color, self.shape or ANY_SHAPE) if word)

    @property
    def noun(self) -> str:
        """The object without its place: `a small blue square`."""
        return with_article(self.words)

    @property
    def named(self) -> tuple[str, ...]:
        """The words that are not free."""
        return tuple(word for word in (self.shape, self.color, self.size, self.place) if word)

    def fits(self, attributes: tuple[str, str, str, str]) -> bool:
        """Whether an object of this shape, color, size and place is wanted."""
        return _fits((self.shape, self.color, self.size, self.place), attributes)


@dataclass(frozen=True, slots=True)
class WantedScene:
    """A picture: exactly these objects."""

    modality: ClassVar[str] = "image"
    objects: tuple[WantedObject, ...]
    background: str = ""

    @property
    def is_plural(self) -> bool:
        """Whether there are several: `here are …`."""
        return len(self.objects) > 1

    @property
    def caption(self) -> str:
        """The caption with free words left out: placed objects in reading order, the others after them as named."""
        placed = sorted((item for item in self.objects if item.place), key=lambda item: PLACES.index(item.place))
        listed = [f"{item.noun} at the {item.place}" for item in placed]
        listed += [item.noun for item in self.objects if not item.place]
        behind = f", on a {self.background} background" if self.background else ""
        return join_nouns(listed) + behind

    @property
    def settled(self) -> WantedScene:
        """The scene with places, sizes and background chosen where they are free."""
        taken = {item.place for item in self.objects}
        places = iter(place for place in _FREE_PLACES if place not in taken)
        objects = tuple(
            replace(item, place=item.place or next(places), size=item.size or _FREE_SIZE) for item in self.objects
        )
        return WantedScene(objects, self.background or _FREE_BACKGROUND)

    def differs(self, seen: CaptionFacts) -> str:
        """Says how a picture differs from what is wanted; empty where it does not."""
        if self.background not in ("", seen.background):
            return f"background {seen.background}, {self.background} wanted"
        if len(seen.objects) != len(self.objects):
            return f"{len(seen.objects)} objects, {len(self.objects)} wanted"
        for order in permutations(sorted(seen.objects)):
            if all(item.fits(attributes) for item, attributes in zip(self.objects, order, strict=True)):
                return ""
        return f"shows {sorted(' '.join(item) for item in seen.objects)}, wanted {self.caption!r}"


@dataclass(frozen=True, slots=True)
class WantedSound:
    """A sound; the timbre is free where it is empty, of a sweep the direction is its pitch."""

    modality: ClassVar[str] = "audio"
    timbre: str = ""
    pitch: str = ""
    count: int = 1

    @property
    def is_plural(self) -> bool:
        """Whether there are several: `here are …`."""
        return self.count > 1

    @property
    def nouns(self) -> str:
        """What there is, in the number there is: `beep`, `beeps`, `sounds`."""
        if self.count == 1:
            return self.timbre or ANY_TIMBRE
        return plural_of(self.timbre) if self.timbre else f"{ANY_TIMBRE}s"

    @property
    def caption(self) -> str:
        """The caption with free words left out: `two high beeps`, `two beeps`, `a rising sweep`."""
        first = "a" if self.timbre == SWEEP else NUMBERS[self.count]
        return " ".join(word for word in (first, self.pitch, self.nouns) if word)

    @property
    def settled(self) -> WantedSound:
        """The sound itself: its generator chooses whatever is free."""
        return self

    def differs(self, heard: SoundFacts) -> str:
        """Says how a sound differs from what is wanted; empty where it does not."""
        good = self.timbre in ("", heard.timbre) and self.pitch in ("", heard.pitch) and self.count == heard.count
        # a sweep has a timbre of its own, which a sound of any timbre does not ask for
        good = good and (bool(self.timbre) or not heard.is_sweep)
        return "" if good else f"sounds like {heard}, wanted {self.caption!r}"


@dataclass(frozen=True, slots=True)
class WantedFilm:
    """A film; empty words are free."""

    modality: ClassVar[str] = "video"
    is_plural: ClassVar[bool] = False
    color: str = ""
    shape: str = ""
    motion: str = ""
    background: str = ""

    @property
    def thing(self) -> str:
        """The object: `a red circle`."""
        return with_article(" ".join(word for word in (self.color, self.shape or ANY_SHAPE) if word))

    @property
    def caption(self) -> str:
        """The caption with free words left out: `a red circle moving left`, `an object moving up`."""
        behind = f"on {with_article(self.background)} background" if self.background else ""
        return " ".join(word for word in (self.thing, self.motion, behind) if word)

    @property
    def settled(self) -> WantedFilm:
        """The film with motion and background chosen where they are free."""
        return replace(self, motion=self.motion or _FREE_MOTION, background=self.background or _FREE_BACKGROUND)

    def differs(self, seen: FilmFacts) -> str:
        """Says how a film differs from what is wanted; empty where it does not."""
        wanted = (self.color, self.shape, self.motion, self.background)
        good = _fits(wanted, (seen.color, seen.shape, seen.motion, seen.background))
        return "" if good else f"shows {seen}, wanted {self.caption!r}"


Wanted: TypeAlias = WantedScene | WantedSound | WantedFilm


def wanted_of(shown: Scene | Sound | Film) -> Wanted:
    """Wants exactly what is there."""
    match shown:
        case Scene():
            return WantedScene(tuple(WantedObject(*item.attributes) for item in shown.objects), shown.background)
        case Sound():
            return WantedSound(shown.facts.timbre, shown.facts.pitch, shown.facts.count)
        case _:
            facts = shown.facts
            return WantedFilm(facts.color, facts.shape, facts.motion, facts.background)
