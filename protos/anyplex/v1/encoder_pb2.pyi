from anyplex.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EncodeRequest(_message.Message):
    __slots__ = ("version", "items", "frames", "window_adapters")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    version: _types_pb2.VersionRef
    items: _containers.RepeatedCompositeFieldContainer[_types_pb2.Media]
    frames: int
    window_adapters: _containers.RepeatedCompositeFieldContainer[WindowAdapters]
    def __init__(self, version: _Optional[_Union[_types_pb2.VersionRef, _Mapping]] = ..., items: _Optional[_Iterable[_Union[_types_pb2.Media, _Mapping]]] = ..., frames: _Optional[int] = ..., window_adapters: _Optional[_Iterable[_Union[WindowAdapters, _Mapping]]] = ...) -> None: ...

class WindowAdapters(_message.Message):
    __slots__ = ("indices",)
    INDICES_FIELD_NUMBER: _ClassVar[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, indices: _Optional[_Iterable[int]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Features]
    def __init__(self, items: _Optional[_Iterable[_Union[Features, _Mapping]]] = ...) -> None: ...

class Features(_message.Message):
    __slots__ = ("tensor", "content_hash", "times_s")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    TIMES_S_FIELD_NUMBER: _ClassVar[int]
    tensor: _types_pb2.Tensor
    content_hash: str
    times_s: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, tensor: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., content_hash: _Optional[str] = ..., times_s: _Optional[_Iterable[float]] = ...) -> None: ...
