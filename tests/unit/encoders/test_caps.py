"""Caps that files of every kind share."""

from __future__ import annotations

import pytest

from graph.errors import InvalidRequest
from services.encoders.caps import MAX_FILE_BYTES, Counter, check_file_bytes
from services.encoders.films import decode_film
from services.encoders.images import decode_image
from services.encoders.sounds import decode_sound


def test_every_kind_of_file_has_one_largest_size() -> None:
    large = bytes(MAX_FILE_BYTES + 1)
    check_file_bytes(large[1:])
    for decode in (decode_image, decode_sound, lambda data: decode_film(data, 1)):
        with pytest.raises(InvalidRequest, match="67108865 bytes, at most 67108864 allowed"):
            decode(large)


def test_counting_ends_past_the_cap() -> None:
    things = Counter("things", 3)
    things.add(2)
    things.add()
    with pytest.raises(InvalidRequest, match="more than 3 things"):
        things.add()
