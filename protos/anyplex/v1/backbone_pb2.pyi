from anyplex.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Turn(_message.Message):
    __slots__ = ("role", "segments")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    role: _types_pb2.Role
    segments: _containers.RepeatedCompositeFieldContainer[_types_pb2.Segment]
    def __init__(self, role: _Optional[_Union[_types_pb2.Role, str]] = ..., segments: _Optional[_Iterable[_Union[_types_pb2.Segment, _Mapping]]] = ...) -> None: ...

class DecodeRequest(_message.Message):
    __slots__ = ("version", "turns", "sampling", "raw", "force_signals", "priority", "produced_ids", "session_id", "text_only")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    FORCE_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PRODUCED_IDS_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_ONLY_FIELD_NUMBER: _ClassVar[int]
    version: _types_pb2.VersionRef
    turns: _containers.RepeatedCompositeFieldContainer[Turn]
    sampling: _types_pb2.Sampling
    raw: bool
    force_signals: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    produced_ids: _containers.RepeatedScalarFieldContainer[int]
    session_id: str
    text_only: bool
    def __init__(self, version: _Optional[_Union[_types_pb2.VersionRef, _Mapping]] = ..., turns: _Optional[_Iterable[_Union[Turn, _Mapping]]] = ..., sampling: _Optional[_Union[_types_pb2.Sampling, _Mapping]] = ..., raw: bool = ..., force_signals: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., produced_ids: _Optional[_Iterable[int]] = ..., session_id: _Optional[str] = ..., text_only: bool = ...) -> None: ...

class DecodeResponse(_message.Message):
    __slots__ = ("choice", "text", "signal", "finished", "started")
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    choice: int
    text: DecodedText
    signal: SignalBlock
    finished: DecodeFinished
    started: DecodeStarted
    def __init__(self, choice: _Optional[int] = ..., text: _Optional[_Union[DecodedText, _Mapping]] = ..., signal: _Optional[_Union[SignalBlock, _Mapping]] = ..., finished: _Optional[_Union[DecodeFinished, _Mapping]] = ..., started: _Optional[_Union[DecodeStarted, _Mapping]] = ...) -> None: ...

class DecodeStarted(_message.Message):
    __slots__ = ("prompt_tokens", "media_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    media_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., media_tokens: _Optional[int] = ...) -> None: ...

class DecodedText(_message.Message):
    __slots__ = ("text", "token_ids", "logprobs")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: _containers.RepeatedCompositeFieldContainer[_types_pb2.TokenLogprob]
    def __init__(self, text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., logprobs: _Optional[_Iterable[_Union[_types_pb2.TokenLogprob, _Mapping]]] = ...) -> None: ...

class SignalBlock(_message.Message):
    __slots__ = ("block", "modality", "hidden_states", "input_embeddings", "text_so_far", "token_ids")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_STATES_FIELD_NUMBER: _ClassVar[int]
    INPUT_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    TEXT_SO_FAR_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    block: int
    modality: str
    hidden_states: _types_pb2.Tensor
    input_embeddings: _types_pb2.Tensor
    text_so_far: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, block: _Optional[int] = ..., modality: _Optional[str] = ..., hidden_states: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., input_embeddings: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., text_so_far: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class DecodeFinished(_message.Message):
    __slots__ = ("reason", "completion_tokens", "queue_s")
    REASON_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    reason: _types_pb2.FinishReason
    completion_tokens: int
    queue_s: float
    def __init__(self, reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ..., completion_tokens: _Optional[int] = ..., queue_s: _Optional[float] = ...) -> None: ...
