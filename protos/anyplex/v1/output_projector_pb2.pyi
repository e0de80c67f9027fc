from anyplex.v1 import backbone_pb2 as _backbone_pb2
from anyplex.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConditionRequest(_message.Message):
    __slots__ = ("version", "block")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    version: _types_pb2.VersionRef
    block: _backbone_pb2.SignalBlock
    def __init__(self, version: _Optional[_Union[_types_pb2.VersionRef, _Mapping]] = ..., block: _Optional[_Union[_backbone_pb2.SignalBlock, _Mapping]] = ...) -> None: ...

class ConditionResponse(_message.Message):
    __slots__ = ("conditioning", "negative")
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
    CONDITIONING_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    conditioning: _containers.MessageMap[str, _types_pb2.Tensor]
    negative: _containers.MessageMap[str, _types_pb2.Tensor]
    def __init__(self, conditioning: _Optional[_Mapping[str, _types_pb2.Tensor]] = ..., negative: _Optional[_Mapping[str, _types_pb2.Tensor]] = ...) -> None: ...
