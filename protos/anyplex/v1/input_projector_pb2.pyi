from anyplex.v1 import encoder_pb2 as _encoder_pb2
from anyplex.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProjectRequest(_message.Message):
    __slots__ = ("version", "items", "prompt")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    version: _types_pb2.VersionRef
    items: _containers.RepeatedCompositeFieldContainer[_encoder_pb2.Features]
    prompt: str
    def __init__(self, version: _Optional[_Union[_types_pb2.VersionRef, _Mapping]] = ..., items: _Optional[_Iterable[_Union[_encoder_pb2.Features, _Mapping]]] = ..., prompt: _Optional[str] = ...) -> None: ...

class ProjectResponse(_message.Message):
    __slots__ = ("segments",)
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[_types_pb2.Segment]
    def __init__(self, segments: _Optional[_Iterable[_Union[_types_pb2.Segment, _Mapping]]] = ...) -> None: ...
