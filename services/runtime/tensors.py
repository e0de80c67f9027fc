"""Tensors on the wire: inline when small, else kept by their producer under a lease and fetched from it.

Dtypes are those of ``types.proto``; bfloat16 travels as its two bytes.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc.aio

from anyplex.v1 import component_pb2, component_pb2_grpc
from graph.errors import Exhausted, InvalidRequest, NotFound, Unavailable
from graph.messages import Tensor, TensorRef

if TYPE_CHECKING:
    import torch

ITEM_BYTES = {
    "float32": 4, "bfloat16": 2, "float16": 2, "int64": 8, "int32": 4, "uint8": 1, "bool": 1,
}  # fmt: skip
FLOATS = ("float32", "bfloat16", "float16")
INLINE_BYTES = 256 * 1024
CHUNK_BYTES = 1024 * 1024
MAX_TENSOR_BYTES = 256 * 2**20
MAX_AXES = 8
MAX_NAME_CHARS = 64


def check_tensor(tensor: Tensor, where: str = "tensor") -> int:
    """Check that dtype, shape and payload of a tensor from outside agree; return its size in bytes.

    Raises:
        InvalidRequest: They do not, or it is larger than ``MAX_TENSOR_BYTES``.
    """
    if tensor.dtype not in ITEM_BYTES:
        raise InvalidRequest(f"dtype {tensor.dtype!r} unknown, one of {sorted(ITEM_BYTES)} expected", where)
    if len(tensor.shape) > MAX_AXES or any(size < 0 for size in tensor.shape):
        raise InvalidRequest(f"shape {list(tensor.shape)}: at most {MAX_AXES} axes of size ≥ 0 expected", where)
    if tensor.dims and len(tensor.dims) != len(tensor.shape):
        raise InvalidRequest(f"{len(tensor.dims)} dims for {len(tensor.shape)} axes", where)
    if any(len(name) > MAX_NAME_CHARS or not name.isprintable() for name in tensor.dims):
        raise InvalidRequest(f"dims: names of at most {MAX_NAME_CHARS} printable characters expected", where)
    size = math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype]
    if size > MAX_TENSOR_BYTES:
        raise InvalidRequest(f"shape {list(tensor.shape)}: {size} bytes, at most {MAX_TENSOR_BYTES} allowed", where)
    if tensor.ref is not None:
        actual = tensor.ref.size_bytes
    elif tensor.data is not None:
        actual = len(tensor.data)
    else:
        actual = 0
    if actual != size:
        raise InvalidRequest(f"shape {list(tensor.shape)} of {tensor.dtype} is {size} bytes, got {actual}", where)
    return size


def check_floats(tensor: Tensor, where: str) -> None:
    """Check a tensor from outside that must hold floating-point numbers.

    Raises:
        InvalidRequest: It does not, or is not what it says.
    """
    check_tensor(tensor, where)
    if tensor.dtype not in FLOATS:
        raise InvalidRequest(f"dtype {tensor.dtype}, one of {list(FLOATS)} expected", where)


def to_torch(tensor: Tensor) -> torch.Tensor:
    """Turn inline elements into a torch tensor of its own memory.

    Raises:
        InvalidRequest: The payload is missing or does not fit the shape.
    """
    import torch

    check_tensor(tensor)
    if tensor.ref is not None:
        raise InvalidRequest("the tensor lies elsewhere: resolve it first", "tensor")
    dtype = getattr(torch, tensor.dtype)
    if not tensor.data:
        return torch.empty(tensor.shape, dtype=dtype)
    return torch.frombuffer(bytearray(tensor.data), dtype=dtype).reshape(tensor.shape)


def from_torch(tensor: torch.Tensor, dims: tuple[str, ...] = ()) -> Tensor:
    """Turn a torch tensor into one with inline elements."""
    import torch

    flat = tensor.detach().cpu().contiguous()
    data = flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return Tensor(str(flat.dtype).removeprefix("torch."), tuple(flat.shape), dims, data)


@dataclass
class _Lease:
    tensors: dict[str, bytes]
    expires_s: float


class TensorStore:
    """Tensors this process keeps for others, by lease; and the way to those others keep.

    Bounded: past ``max_bytes`` new tensors are refused. A lease that nobody releases ends by itself.

    Args:
        max_bytes: Most bytes held at once.
        lease_s: How long a lease lives after its last tensor was put.
        inline_bytes: Tensors up to this size travel inline.
        clock: Monotonic clock.
    """

    def __init__(
        self,
        max_bytes: int = 512 * 2**20,
        lease_s: float = 120.0,
        inline_bytes: int = INLINE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = ""
        self.max_bytes = max_bytes
        self.lease_s = lease_s
        self.inline_bytes = inline_bytes
        self.bytes_held = 0
        self._clock = clock
        self._leases: OrderedDict[str, _Lease] = OrderedDict()
        self._where: dict[str, str] = {}
        self.channels: ChannelPool = ChannelPool()

    def __len__(self) -> int:
        return len(self._where)

    def keep(self, tensor: Tensor, lease_id: str) -> Tensor:
        """Return the tensor as it should travel: inline when small, else a reference to a copy kept here.

        Raises:
            Exhausted: Keeping it would pass ``max_bytes``.
        """
        data = tensor.data
        if data is None or len(data) <= self.inline_bytes or not self.address:
            return tensor
        self.sweep()
        if self.bytes_held + len(data) > self.max_bytes:
            raise Exhausted(f"{self.bytes_held} bytes of tensors held, at most {self.max_bytes} allowed", "", 1.0)
        tensor_id = uuid.uuid4().hex
        lease = self._leases.setdefault(lease_id, _Lease({}, 0.0))
        lease.tensors[tensor_id] = data
        lease.expires_s = self._clock() + self.lease_s
        self._leases.move_to_end(lease_id)
        self._where[tensor_id] = lease_id
        self.bytes_held += len(data)
        ref = TensorRef(self.address, tensor_id, lease_id, len(data))
        return Tensor(tensor.dtype, tensor.shape, tensor.dims, None, ref)

    def read(self, tensor_id: str) -> bytes:
        """Return the elements of a tensor kept here.

        Raises:
            NotFound: It was released, expired, or never here.
        """
        lease_id = self._where.get(tensor_id)
        if lease_id is None:
            raise NotFound("no such tensor here: released, expired, or never kept")
        return self._leases[lease_id].tensors[tensor_id]

    def release(self, lease_id: str) -> int:
        """End a lease; return how many tensors were freed."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            return 0
        for tensor_id, data in lease.tensors.items():
            del self._where[tensor_id]
            self.bytes_held -= len(data)
        return len(lease.tensors)

    def sweep(self) -> None:
        """End the leases whose time is over (oldest first)."""
        now = self._clock()
        for lease_id in [key for key, lease in self._leases.items() if lease.expires_s <= now]:
            self.release(lease_id)

    async def resolve(self, tensor: Tensor, where: str = "tensor") -> Tensor:
        """Return the tensor with its elements inline, fetched from their producer if need be.

        Raises:
            InvalidRequest: Shape, dtype and size disagree.
            Unavailable: The producer is gone.
        """
        size = check_tensor(tensor, where)
        if tensor.ref is None:
            return tensor
        if tensor.ref.address == self.address and self.address:
            data = self.read(tensor.ref.tensor_id)
        else:
            data = await self._fetch(tensor.ref)
        if len(data) != size:
            raise InvalidRequest(f"the producer sent {len(data)} bytes, {size} expected", where)
        return Tensor(tensor.dtype, tensor.shape, tensor.dims, data)

    async def _fetch(self, ref: TensorRef) -> bytes:
        stub = self.channels.stub(component_pb2_grpc.TensorServiceStub, ref.address)
        chunks: list[bytes] = []
        received = 0
        try:
            request = component_pb2.FetchRequest(tensor_id=ref.tensor_id)
            async for chunk in stub.Fetch(request, metadata=self.channels.metadata, timeout=60.0):
                received += len(chunk.data)
                if received > ref.size_bytes:
                    break
                chunks.append(chunk.data)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"a tensor of {ref.size_bytes} bytes could not be fetched from its producer") from error
        return b"".join(chunks)


class ChannelPool:
    """One gRPC channel an address, made when first needed; at most ``limit``, the least used closed first.

    Attributes:
        metadata: Sent with every call: the cluster's token.
    """

    OPTIONS = (
        ("grpc.max_receive_message_length", 128 * 2**20),
        ("grpc.max_send_message_length", 128 * 2**20),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # A new channel must not wait out the back-off of a dropped one: whoever has its port now is somebody else.
        ("grpc.use_local_subchannel_pool", 1),
    )
    DRAIN_S = 330.0

    def __init__(self, limit: int = 256) -> None:
        self.limit = limit
        self.metadata: tuple[tuple[str, str], ...] = ()
        self.credentials: grpc.ChannelCredentials | None = None
        self._channels: OrderedDict[str, grpc.aio.Channel] = OrderedDict()
        self._stubs: dict[tuple[str, Callable[[grpc.aio.Channel], Any]], Any] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def get(self, address: str) -> grpc.aio.Channel:
        """Return the channel to an address."""
        channel = self._channels.get(address)
        if channel is None:
            if self.credentials is not None:
                channel = grpc.aio.secure_channel(address, self.credentials, options=list(self.OPTIONS))
            else:
                channel = grpc.aio.insecure_channel(address, options=list(self.OPTIONS))
            self._channels[address] = channel
            if len(self._channels) > self.limit:
                self.drop(next(iter(self._channels)))
        self._channels.move_to_end(address)
        return channel

    def stub(self, make: Callable[[grpc.aio.Channel], Any], address: str) -> Any:  # noqa: ANN401 - any service's stub
        """Return a stub of a service at an address; made once, since making one costs as much as a small call."""
        channel = self.get(address)
        stub = self._stubs.get((address, make))
        if stub is None:
            stub = self._stubs[address, make] = make(channel)
        return stub

    def drop(self, address: str) -> None:
        """Forget the channel to an address; it closes when the calls on it have ended."""
        for key in [key for key in self._stubs if key[0] == address]:
            del self._stubs[key]
        channel = self._channels.pop(address, None)
        if channel is not None:
            task = asyncio.ensure_future(channel.close(grace=self.DRAIN_S))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close every channel."""
        channels, self._channels = list(self._channels.values()), OrderedDict()
        self._stubs.clear()
        await asyncio.gather(*(channel.close() for channel in channels))


class TensorFace(component_pb2_grpc.TensorServiceServicer):
    """The gRPC face of a tensor store."""

    def __init__(self, store: TensorStore) -> None:
        self.store = store

    async def Fetch(  # noqa: N802 - name fixed by the contract
        self, request: component_pb2.FetchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[component_pb2.FetchResponse]:
        """Send a tensor in chunks."""
        data = memoryview(self.store.read(request.tensor_id))
        for start in range(0, len(data), CHUNK_BYTES):
            yield component_pb2.FetchResponse(data=bytes(data[start : start + CHUNK_BYTES]))

    async def Release(  # noqa: N802 - name fixed by the contract
        self, request: component_pb2.ReleaseRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> component_pb2.ReleaseResponse:
        """End a lease."""
        return component_pb2.ReleaseResponse(released=self.store.release(request.lease_id))
