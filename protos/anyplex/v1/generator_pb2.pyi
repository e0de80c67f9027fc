from anyplex.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RenderRequest(_message.Message):
    __slots__ = ("version", "conditioning", "negative", "parameters", "seed", "priority", "references")
    class ConditioningEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _types_pb2.Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...
    class NegativeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _types_pb2.Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONDITIONING_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    version: _types_pb2.VersionRef
    conditioning: _containers.MessageMap[str, _types_pb2.Tensor]
    negative: _containers.MessageMap[str, _types_pb2.Tensor]
    parameters: _types_pb2.MediaParameters
    seed: int
    priority: int
    references: _containers.RepeatedCompositeFieldContainer[_types_pb2.Media]
    def __init__(self, version: _Optional[_Union[_types_pb2.VersionRef, _Mapping]] = ..., conditioning: _Optional[_Mapping[str, _types_pb2.Tensor]] = ..., negative: _Optional[_Mapping[str, _types_pb2.Tensor]] = ..., parameters: _Optional[_Union[_types_pb2.MediaParameters, _Mapping]] = ..., seed: _Optional[int] = ..., priority: _Optional[int] = ..., references: _Optional[_Iterable[_Union[_types_pb2.Media, _Mapping]]] = ...) -> None: ...

class RenderResponse(_message.Message):
    __slots__ = ("started", "progress", "chunk")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    started: RenderStarted
    progress: RenderProgress
    chunk: RenderChunk
    def __init__(self, started: _Optional[_Union[RenderStarted, _Mapping]] = ..., progress: _Optional[_Union[RenderProgress, _Mapping]] = ..., chunk: _Optional[_Union[RenderChunk, _Mapping]] = ...) -> None: ...

class RenderStarted(_message.Message):
    __slots__ = ("mime_type",)
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    mime_type: str
    def __init__(self, mime_type: _Optional[str] = ...) -> None: ...

class RenderProgress(_message.Message):
    __slots__ = ("step", "steps", "preview")
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    step: int
    steps: int
    preview: bytes
    def __init__(self, step: _Optional[int] = ..., steps: _Optional[int] = ..., preview: _Optional[bytes] = ...) -> None: ...

class RenderChunk(_message.Message):
    __slots__ = ("data", "last")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    def __init__(self, data: _Optional[bytes] = ..., last: bool = ...) -> None: ...
