from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator

import grpc.aio
import pytest
import torch

from anyplex.v1 import component_pb2_grpc
from graph.errors import Exhausted, InvalidRequest, NotFound, Unavailable
from graph.messages import Tensor, TensorRef
from services.runtime.interceptors import interceptors
from services.runtime.telemetry import Metrics, Tracing
from services.runtime.tensors import (
    CHUNK_BYTES,
    MAX_TENSOR_BYTES,
    ChannelPool,
    TensorFace,
    TensorStore,
    check_tensor,
    from_torch,
    to_torch,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def tensor(size: int = 1000, fill: int = 1) -> Tensor:
    return Tensor("uint8", (size,), ("bytes",), bytes([fill]) * size)


def ref(size_bytes: int, address: str = "127.0.0.1:1", tensor_id: str = "t") -> TensorRef:
    return TensorRef(address, tensor_id, "lease", size_bytes)


# ---- what is refused before anything is read -------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Tensor("float32", (2, 3), (), bytes(23)), "24 bytes, got 23"),
        (Tensor("float32", (2, 3), (), bytes(25)), "24 bytes, got 25"),
        (Tensor("float32", (2, 3)), "24 bytes, got 0"),
        (Tensor("float64", (1,), (), bytes(8)), "dtype"),
        (Tensor("", (1,), (), bytes(4)), "dtype"),
        (Tensor("float32", (-1, 3), (), bytes(12)), "axes"),
        (Tensor("uint8", (1,) * 9, (), bytes(1)), "axes"),
        (Tensor("uint8", (2,), ("a", "b"), bytes(2)), "dims"),
        (Tensor("uint8", (MAX_TENSOR_BYTES + 1,), (), b""), "at most"),
        (Tensor("float32", (2**40, 2**40, 2**40), (), b""), "at most"),
        (Tensor("float32", (2, 3), (), None, ref(23)), "got 23"),
        (Tensor("uint8", (3,), (), pickle.dumps([1])), "got"),
    ],
)
def test_tensors_that_disagree_with_themselves_are_refused(wrong: Tensor, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        check_tensor(wrong, "items[0].tensor")
    assert refused.value.where == "items[0].tensor"


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8])
def test_elements_survive_the_way_to_bytes_and_back(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    original = torch.arange(max(1, torch.Size(shape).numel())).reshape(-1)[: torch.Size(shape).numel()]
    original = original.reshape(shape).to(dtype)
    sent = from_torch(original, tuple(f"axis{index}" for index in range(len(shape))))
    assert check_tensor(sent) == original.numel() * original.element_size()
    assert torch.equal(to_torch(sent), original)


def test_what_comes_back_has_memory_of_its_own() -> None:
    sent = from_torch(torch.zeros(4))
    to_torch(sent).add_(1)
    assert torch.equal(to_torch(sent), torch.zeros(4))


def test_a_reference_cannot_be_read_unresolved() -> None:
    with pytest.raises(InvalidRequest):
        to_torch(Tensor("uint8", (1,), (), None, ref(1)))


# ---- leases ----------------------------------------------------------------------------------------------


def kept_store(**settings: object) -> TensorStore:
    store = TensorStore(**{"max_bytes": 3000, "inline_bytes": 100, **settings})  # type: ignore[arg-type]
    store.address = "127.0.0.1:5"
    return store


def test_small_tensors_travel_inline() -> None:
    store = kept_store()
    assert store.keep(tensor(100), "r") == tensor(100)
    assert len(store) == 0


def test_nothing_is_kept_where_nobody_could_fetch_it() -> None:
    store = kept_store()
    store.address = ""
    assert store.keep(tensor(1000), "r") == tensor(1000)


def test_large_tensors_stay_until_their_lease_is_released() -> None:
    store = kept_store()
    first, second, other = store.keep(tensor(), "r"), store.keep(tensor(), "r"), store.keep(tensor(), "s")
    assert first.data is None
    assert first.ref is not None
    assert (first.ref.address, first.ref.lease_id, first.ref.size_bytes) == ("127.0.0.1:5", "r", 1000)
    assert check_tensor(first) == 1000
    assert (len(store), store.bytes_held) == (3, 3000)
    assert store.release("r") == 2
    assert store.release("r") == 0
    assert (len(store), store.bytes_held) == (1, 1000)
    assert second.ref is not None
    with pytest.raises(NotFound):
        store.read(second.ref.tensor_id)
    assert other.ref is not None
    assert store.read(other.ref.tensor_id) == bytes([1]) * 1000


def test_the_store_is_bounded() -> None:
    store = kept_store()
    for lease in "abc":
        store.keep(tensor(), lease)
    with pytest.raises(Exhausted) as full:
        store.keep(tensor(), "d")
    assert full.value.retry_after_s > 0
    store.release("a")
    store.keep(tensor(), "d")


def test_leases_that_nobody_releases_end_by_themselves() -> None:
    clock = Clock()
    store = kept_store(lease_s=10.0, clock=clock)
    store.keep(tensor(), "a")
    clock.now = 6.0
    store.keep(tensor(), "b")
    clock.now = 11.0
    store.sweep()
    assert (len(store), store.bytes_held) == (1, 1000)
    clock.now = 17.0
    for lease in "cde":
        store.keep(tensor(), lease)
    assert store.bytes_held == 3000


def test_a_lease_lives_on_while_tensors_are_put() -> None:
    clock = Clock()
    store = kept_store(lease_s=10.0, clock=clock)
    store.keep(tensor(), "a")
    clock.now = 9.0
    store.keep(tensor(), "a")
    clock.now = 15.0
    store.sweep()
    assert len(store) == 2


# ---- from one process to another -------------------------------------------------------------------------


@pytest.fixture
async def producer() -> AsyncIterator[TensorStore]:
    store = TensorStore(inline_bytes=10)
    server = grpc.aio.server(interceptors=interceptors(Metrics("c", "k"), Tracing("", ""), ()))
    component_pb2_grpc.add_TensorServiceServicer_to_server(TensorFace(store), server)
    store.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield store
    await server.stop(0)


@pytest.fixture
async def consumer() -> AsyncIterator[TensorStore]:
    store = TensorStore()
    yield store
    await store.channels.close()


async def test_tensors_are_fetched_from_their_producer(producer: TensorStore, consumer: TensorStore) -> None:
    original = torch.randn(3 * CHUNK_BYTES // 16 + 5, 4)
    kept = producer.keep(from_torch(original, ("tokens", "width")), "r")
    assert kept.ref is not None
    fetched = await consumer.resolve(kept)
    assert fetched.dims == ("tokens", "width")
    assert torch.equal(to_torch(fetched), original)


async def test_ones_own_tensors_are_not_fetched(producer: TensorStore) -> None:
    kept = producer.keep(tensor(), "r")
    assert (await producer.resolve(kept)).data == tensor().data


async def test_inline_tensors_are_there_already(consumer: TensorStore) -> None:
    assert await consumer.resolve(tensor()) == tensor()


async def test_a_released_tensor_cannot_be_fetched(producer: TensorStore, consumer: TensorStore) -> None:
    kept = producer.keep(tensor(), "r")
    producer.release("r")
    with pytest.raises(Unavailable):
        await consumer.resolve(kept)


async def test_a_producer_that_is_gone_is_unavailable(consumer: TensorStore) -> None:
    with pytest.raises(Unavailable) as gone:
        await consumer.resolve(Tensor("uint8", (5,), (), None, ref(5)))
    assert "127.0.0.1" not in str(gone.value)


@pytest.mark.parametrize("claimed", [999, 1001, 10])
async def test_a_producer_that_sends_another_size_is_not_believed(
    producer: TensorStore, consumer: TensorStore, claimed: int
) -> None:
    kept = producer.keep(tensor(1000), "r")
    assert kept.ref is not None
    lied = Tensor("uint8", (claimed,), (), None, ref(claimed, producer.address, kept.ref.tensor_id))
    with pytest.raises(InvalidRequest):
        await consumer.resolve(lied)


async def test_fetching_at_once_is_fine(producer: TensorStore, consumer: TensorStore) -> None:
    kept = [producer.keep(tensor(50_000, index), f"r{index}") for index in range(20)]
    found = await asyncio.gather(*map(consumer.resolve, kept))
    assert [one.data[:1] for one in found if one.data] == [bytes([index]) for index in range(20)]


# ---- channels --------------------------------------------------------------------------------------------


async def test_one_channel_an_address() -> None:
    pool = ChannelPool()
    assert pool.get("127.0.0.1:1") is pool.get("127.0.0.1:1")
    assert pool.get("127.0.0.1:1") is not pool.get("127.0.0.1:2")
    await pool.close()


async def test_the_least_used_channels_are_closed_first() -> None:
    pool = ChannelPool(limit=2)
    first, second = pool.get("127.0.0.1:1"), pool.get("127.0.0.1:2")
    pool.get("127.0.0.1:1")
    pool.get("127.0.0.1:3")
    assert pool.get("127.0.0.1:1") is first
    assert pool.get("127.0.0.1:2") is not second
    await pool.close()


async def test_stubs_do_not_outlive_their_channels() -> None:
    pool = ChannelPool(limit=1)
    make = component_pb2_grpc.TensorServiceStub
    stub = pool.stub(make, "127.0.0.1:1")
    assert pool.stub(make, "127.0.0.1:1") is stub
    pool.drop("127.0.0.1:1")
    assert pool.stub(make, "127.0.0.1:1") is not stub
    again = pool.stub(make, "127.0.0.1:1")
    pool.get("127.0.0.1:2")
    assert pool.stub(make, "127.0.0.1:1") is not again
    await pool.close()
