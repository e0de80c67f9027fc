"""Headers of films: claims are counted before anything believes them."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import pytest

from graph.errors import InvalidRequest
from services.encoders.caps import MAX_BLOCKS
from services.encoders.film_headers import MAX_FRAMES
from services.encoders.films import decode_film, read_film_header
from tests.films import box, claiming_mp4, claiming_webm, compressed_mp4, element, film, grays, hidden_tracks

GUARD = 10  # A tenfold guard against hanging; `make bench fault` judges the times.
COMPRESSED = element(0x6D80, element(0x6240, element(0x5034, b"")))


@pytest.mark.parametrize(
    ("make", "format_name"), [(lambda: film(grays(3)), "MP4"), (lambda: film(grays(3), "webm"), "WebM")]
)
def test_headers_tell_size_and_length(make: Callable[[], bytes], format_name: str) -> None:
    header = read_film_header(make())
    assert header is not None
    assert (header.format, header.width, header.height) == (format_name, 32, 32)
    assert header.seconds == pytest.approx(0.75, abs=0.26)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (claiming_mp4(10_000), f"more than {MAX_FRAMES} frames"),
        (claiming_mp4(4_000_000_000), "more than"),
        (claiming_mp4(200_000_000, handler=b"soun"), "without moving pictures"),
        (claiming_mp4(8, samples_a_chunk=4_000_000_000), f"more than {MAX_BLOCKS} samples"),
        (claiming_mp4(8, side=40_000), "40000×40000 pixels"),
        (claiming_mp4(8, seconds=36_000), "36000 seconds, at most 600"),
        (compressed_mp4(claiming_mp4(20_000_000), shown=film(grays(2))), "compressed header"),
        (compressed_mp4(film(grays(2))), "without moving pictures"),
        (film(grays(2)) + box(b"free", b"stsc" * 2**20), "more than 32 tables of runs|runs of chunks"),
        (film(grays(2)) + box(b"free", b"stsc" + struct.pack(">II", 0, 2**20), bytes(12 * 2**20)), "runs of chunks"),
        (film(grays(2)) + box(b"free", (b"stsz" + bytes(12)) * 2**18), "tables in one film"),
        (
            film(grays(2)) + box(b"free", b"".join(box(b"mdta", b"%05x" % i) for i in range(10**5))),
            "more than 1000 names",
        ),
        (claiming_webm(10_000), f"more than {MAX_FRAMES} frames"),
        (claiming_webm(100, lacing=256), f"more than {MAX_FRAMES} frames"),
        (claiming_webm(8, side=40_000), "40000×40000 pixels"),
        (claiming_webm(8, seconds=36_000), "36000 seconds"),
        (claiming_webm(8, seconds=float("nan")), "nan seconds"),
        (claiming_webm(8, encodings=COMPRESSED), "compressed or encrypted"),
        (claiming_webm(8, lists=element(0x1654AE6B, b"\xae\x80" * 33)), "more than 32 tracks"),
        (claiming_webm(8, lists=element(0x1043A770, element(0x45B9, b"\xb6\x80" * 10**6))), "in the lists"),
        (claiming_webm(8, lists=element(0x1941A469, b"\x61\xa7\x80" * 10**6)), "in the lists"),
        (claiming_webm(8, lists=element(0x1254C367, b"\x73\x73\x80" * 10**6)), "in the lists"),
        (claiming_webm(8, lists=element(0x1C53BB6B, b"\xbb\x80" * 10**6)), "in the lists"),
        (claiming_webm(8, lists=element(0x1254C367, element(0x7373, b"\x67\xc8\x80" * 1_001))), "more than 1000 tags"),
        (hidden_tracks(1), "hidden tracks"),
        (hidden_tracks(400_000), "hidden tracks"),
        (hidden_tracks(400_000, is_told=False), "behind its first cluster"),
        (claiming_webm(8)[:-3], "truncated"),
        (claiming_mp4(8)[:-3], "truncated"),
        (box(b"ftyp", b"isom") + struct.pack(">I4s", 4, b"moov"), "damaged header"),
        (box(b"ftyp", b"isom") + struct.pack(">I4sQ", 1, b"moov", 2**63), "truncated"),
        (b"\x1a\x45\xdf\xa3\x00", "damaged header"),
        (b"\x1a\x45\xdf\xa3" + b"\x80" * 500_000, "damaged|more than"),
    ],
)
def test_claims_are_refused(data: bytes, complaint: str) -> None:
    begin = time.process_time()
    with pytest.raises(InvalidRequest, match=complaint):
        decode_film(data, 8)
    took_ms = (time.process_time() - begin) * 1000
    print(f"refused after {took_ms:.1f} ms")
    assert took_ms < 100 * GUARD


def test_tables_are_found_wherever_they_hide() -> None:
    """Demuxers descend into boxes of many kinds, so a bomb may lie in any of them."""
    bomb = box(b"stsz", struct.pack(">III", 0, 1, 100_000_000))
    plain = film(grays(2))
    hidden = plain + box(b"udta", box(b"meta", bytes(4), box(b"ilst", bomb)))
    with pytest.raises(InvalidRequest, match="samples in the tables"):
        read_film_header(hidden)
    assert read_film_header(plain + box(b"mdat", bomb)) is not None
