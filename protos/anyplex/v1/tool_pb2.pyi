from anyplex.v1 import backbone_pb2 as _backbone_pb2
from anyplex.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunRequest(_message.Message):
    __slots__ = ("version", "text", "media", "block", "seed", "priority")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    version: _types_pb2.VersionRef
    text: str
    media: _containers.RepeatedCompositeFieldContainer[_types_pb2.Media]
    block: _backbone_pb2.SignalBlock
    seed: int
    priority: int
    def __init__(self, version: _Optional[_Union[_types_pb2.VersionRef, _Mapping]] = ..., text: _Optional[str] = ..., media: _Optional[_Iterable[_Union[_types_pb2.Media, _Mapping]]] = ..., block: _Optional[_Union[_backbone_pb2.SignalBlock, _Mapping]] = ..., seed: _Optional[int] = ..., priority: _Optional[int] = ...) -> None: ...

class RunResponse(_message.Message):
    __slots__ = ("text", "regions", "media_started", "media_chunk")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    MEDIA_STARTED_FIELD_NUMBER: _ClassVar[int]
    MEDIA_CHUNK_FIELD_NUMBER: _ClassVar[int]
    text: str
    regions: _types_pb2.RegionsFound
    media_started: ToolMediaStarted
    media_chunk: ToolMediaChunk
    def __init__(self, text: _Optional[str] = ..., regions: _Optional[_Union[_types_pb2.RegionsFound, _Mapping]] = ..., media_started: _Optional[_Union[ToolMediaStarted, _Mapping]] = ..., media_chunk: _Optional[_Union[ToolMediaChunk, _Mapping]] = ...) -> None: ...

class ToolMediaStarted(_message.Message):
    __slots__ = ("modality", "mime_type")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    modality: str
    mime_type: str
    def __init__(self, modality: _Optional[str] = ..., mime_type: _Optional[str] = ...) -> None: ...

class ToolMediaChunk(_message.Message):
    __slots__ = ("data", "last")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    def __init__(self, data: _Optional[bytes] = ..., last: bool = ...) -> None: ...
