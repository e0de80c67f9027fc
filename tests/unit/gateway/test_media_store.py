from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from graph.errors import Exhausted, InvalidRequest, NotFound
from services.gateway.media import CHUNK_CAP_BYTES, MediaStore

HOUR_S = 3600.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Iterator[MediaStore]:
    store = MediaStore(media_bytes=1000, total_bytes=2500, keep_s=60.0, max_keep_s=HOUR_S, clock=clock)
    yield store
    store.close()


def files(store: MediaStore) -> list[Path]:
    return list(store._root.iterdir())


async def chunked(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def hand_in(
    store: MediaStore, *chunks: bytes, owner: str = "me", size_bytes: int = 0, keep_s: float = 0.0
) -> str:
    medium = await store.put(owner, "image", "image/png", size_bytes, keep_s, chunked(*chunks))
    return medium.handle


async def test_keeps_what_was_handed_in() -> None:
    store = MediaStore(1000, 2500, 60.0, HOUR_S)
    medium = await store.put("me", "image", "image/png", 6, 0.0, chunked(b"abc", b"def"))
    found = store.get(medium.handle, "me")
    assert found.path.read_bytes() == b"abcdef"
    assert (found.size_bytes, found.sha256) == (6, hashlib.sha256(b"abcdef").hexdigest())
    assert (found.modality, found.mime_type) == ("image", "image/png")
    assert store.bytes_held == 6
    assert 0 < store.expires_in_s(medium) <= 60.0
    root = store._root
    store.close()
    assert not root.exists()


async def test_handles_belong_to_their_owner(store: MediaStore) -> None:
    handle = await hand_in(store, b"abc", owner="me")
    for call in (store.get, store.delete):
        with pytest.raises(NotFound) as foreign:
            call(handle, "you")
        with pytest.raises(NotFound) as unknown:
            call("no-such-handle", "you")
        assert str(foreign.value) == str(unknown.value), "the answer must not tell that the handle exists"
    assert store.get(handle, "me").size_bytes == 3


async def test_handles_cannot_be_guessed(store: MediaStore) -> None:
    handles = {await hand_in(store, b"x") for _ in range(50)}
    assert len(handles) == 50
    assert min(map(len, handles)) >= 22


async def test_deleted_media_are_gone(store: MediaStore) -> None:
    handle = await hand_in(store, b"abc")
    store.delete(handle, "me")
    with pytest.raises(NotFound):
        store.get(handle, "me")
    assert (len(store), store.bytes_held, files(store)) == (0, 0, [])


async def test_media_expire(store: MediaStore, clock: Clock) -> None:
    short, long = await hand_in(store, b"a", keep_s=10.0), await hand_in(store, b"b", keep_s=100.0)
    clock.now += 11
    with pytest.raises(NotFound):
        store.get(short, "me")
    assert store.get(long, "me").size_bytes == 1
    clock.now += 100
    store.sweep()
    assert (len(store), store.bytes_held, files(store)) == (0, 0, [])


@pytest.mark.parametrize("keep_s", [-1.0, HOUR_S + 1, float("nan"), float("inf")])
async def test_unreasonable_times_are_refused(store: MediaStore, keep_s: float) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await hand_in(store, b"a", keep_s=keep_s)
    assert refused.value.where == "request.open.keep_s"


@pytest.mark.parametrize(
    ("chunks", "size_bytes"),
    [
        ([b"x" * 600, b"x" * 600], 0),  # larger than allowed, not announced
        ([b"x"], 1001),  # announced too large
        ([b"x"], -1),
        ([b"abc"], 4),  # shorter than announced
        ([b"abc", b"de"], 4),  # longer than announced
        ([], 0),
        ([b""], 0),
    ],
)
async def test_wrong_sizes_are_refused_and_leave_nothing(
    store: MediaStore, chunks: list[bytes], size_bytes: int
) -> None:
    with pytest.raises(InvalidRequest):
        await hand_in(store, *chunks, size_bytes=size_bytes)
    assert (len(store), store.bytes_held, files(store)) == (0, 0, [])


async def test_large_chunks_are_refused() -> None:
    store = MediaStore(10 * CHUNK_CAP_BYTES, 10 * CHUNK_CAP_BYTES, 60.0, HOUR_S)
    await hand_in(store, b"x" * CHUNK_CAP_BYTES)
    with pytest.raises(InvalidRequest, match="chunk"):
        await hand_in(store, b"x" * (CHUNK_CAP_BYTES + 1))
    assert store.bytes_held == CHUNK_CAP_BYTES
    store.close()


async def test_the_quota_holds_for_all_together(store: MediaStore) -> None:
    handles = [await hand_in(store, b"x" * 1000) for _ in range(2)]
    with pytest.raises(Exhausted) as full:
        await hand_in(store, b"x" * 501)
    assert full.value.retry_after_s > 0
    assert store.bytes_held == 2000
    await hand_in(store, b"x" * 500)
    store.delete(handles[0], "me")
    await hand_in(store, b"x" * 1000)
    assert store.bytes_held == 2500


async def test_what_expired_makes_room(store: MediaStore, clock: Clock) -> None:
    for _ in range(2):
        await hand_in(store, b"x" * 1000, keep_s=10.0)
    clock.now += 11
    await hand_in(store, b"x" * 1000)
    assert len(store) == 1


async def test_an_aborted_upload_leaves_nothing(store: MediaStore) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 100
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store.put("me", "image", "", 0, 0.0, endless()))
    await begun.wait()
    assert store.bytes_held == 100
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (len(store), store.bytes_held, files(store)) == (0, 0, [])


async def test_an_upload_whose_source_fails_leaves_nothing(store: MediaStore) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * 100
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put("me", "image", "", 0, 0.0, failing())
    assert (len(store), store.bytes_held, files(store)) == (0, 0, [])


@pytest.mark.parametrize("field", ["modality", "mime_type"])
async def test_long_words_are_refused(store: MediaStore, field: str) -> None:
    words = {"modality": "image", "mime_type": "", field: "x" * 129}
    with pytest.raises(InvalidRequest) as refused:
        await store.put("me", words["modality"], words["mime_type"], 0, 0.0, chunked(b"x"))
    assert refused.value.where == f"request.open.{field}"
