from anyplex.v1 import error_pb2 as _error_pb2
from anyplex.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("system", "messages", "outputs", "sampling", "media_parameters", "session_id", "priority", "idempotency_key", "pinned_versions")
    class MediaParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _types_pb2.MediaParameters
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_types_pb2.MediaParameters, _Mapping]] = ...) -> None: ...
    class PinnedVersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    MEDIA_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    PINNED_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    system: str
    messages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Message]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    sampling: _types_pb2.Sampling
    media_parameters: _containers.MessageMap[str, _types_pb2.MediaParameters]
    session_id: str
    priority: int
    idempotency_key: str
    pinned_versions: _containers.ScalarMap[str, str]
    def __init__(self, system: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_types_pb2.Message, _Mapping]]] = ..., outputs: _Optional[_Iterable[str]] = ..., sampling: _Optional[_Union[_types_pb2.Sampling, _Mapping]] = ..., media_parameters: _Optional[_Mapping[str, _types_pb2.MediaParameters]] = ..., session_id: _Optional[str] = ..., priority: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., pinned_versions: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: Event
    def __init__(self, event: _Optional[_Union[Event, _Mapping]] = ...) -> None: ...

class ConverseRequest(_message.Message):
    __slots__ = ("open", "message", "interrupt")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    INTERRUPT_FIELD_NUMBER: _ClassVar[int]
    open: GenerateRequest
    message: _types_pb2.Message
    interrupt: Interrupt
    def __init__(self, open: _Optional[_Union[GenerateRequest, _Mapping]] = ..., message: _Optional[_Union[_types_pb2.Message, _Mapping]] = ..., interrupt: _Optional[_Union[Interrupt, _Mapping]] = ...) -> None: ...

class Interrupt(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConverseResponse(_message.Message):
    __slots__ = ("turn", "event")
    TURN_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    turn: int
    event: Event
    def __init__(self, turn: _Optional[int] = ..., event: _Optional[_Union[Event, _Mapping]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("sequence", "node", "choice", "accepted", "text", "media_started", "media_progress", "media_chunk", "media_failed", "finished", "regions_found")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MEDIA_STARTED_FIELD_NUMBER: _ClassVar[int]
    MEDIA_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MEDIA_CHUNK_FIELD_NUMBER: _ClassVar[int]
    MEDIA_FAILED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FOUND_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    node: str
    choice: int
    accepted: Accepted
    text: TextDelta
    media_started: MediaStarted
    media_progress: MediaProgress
    media_chunk: MediaChunk
    media_failed: MediaFailed
    finished: Finished
    regions_found: _types_pb2.RegionsFound
    def __init__(self, sequence: _Optional[int] = ..., node: _Optional[str] = ..., choice: _Optional[int] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., text: _Optional[_Union[TextDelta, _Mapping]] = ..., media_started: _Optional[_Union[MediaStarted, _Mapping]] = ..., media_progress: _Optional[_Union[MediaProgress, _Mapping]] = ..., media_chunk: _Optional[_Union[MediaChunk, _Mapping]] = ..., media_failed: _Optional[_Union[MediaFailed, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., regions_found: _Optional[_Union[_types_pb2.RegionsFound, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("request_id", "versions", "seed", "repinned")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPINNED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    versions: _types_pb2.VersionSet
    seed: int
    repinned: bool
    def __init__(self, request_id: _Optional[str] = ..., versions: _Optional[_Union[_types_pb2.VersionSet, _Mapping]] = ..., seed: _Optional[int] = ..., repinned: bool = ...) -> None: ...

class TextDelta(_message.Message):
    __slots__ = ("text", "logprobs")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    text: str
    logprobs: _containers.RepeatedCompositeFieldContainer[_types_pb2.TokenLogprob]
    def __init__(self, text: _Optional[str] = ..., logprobs: _Optional[_Iterable[_Union[_types_pb2.TokenLogprob, _Mapping]]] = ...) -> None: ...

class MediaStarted(_message.Message):
    __slots__ = ("media_index", "modality", "mime_type")
    MEDIA_INDEX_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    media_index: int
    modality: str
    mime_type: str
    def __init__(self, media_index: _Optional[int] = ..., modality: _Optional[str] = ..., mime_type: _Optional[str] = ...) -> None: ...

class MediaProgress(_message.Message):
    __slots__ = ("media_index", "step", "steps", "preview")
    MEDIA_INDEX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    media_index: int
    step: int
    steps: int
    preview: bytes
    def __init__(self, media_index: _Optional[int] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., preview: _Optional[bytes] = ...) -> None: ...

class MediaChunk(_message.Message):
    __slots__ = ("media_index", "data", "last", "handle")
    MEDIA_INDEX_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    media_index: int
    data: bytes
    last: bool
    handle: str
    def __init__(self, media_index: _Optional[int] = ..., data: _Optional[bytes] = ..., last: bool = ..., handle: _Optional[str] = ...) -> None: ...

class MediaFailed(_message.Message):
    __slots__ = ("media_index", "error", "modality")
    MEDIA_INDEX_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    media_index: int
    error: _error_pb2.ErrorDetail
    modality: str
    def __init__(self, media_index: _Optional[int] = ..., error: _Optional[_Union[_error_pb2.ErrorDetail, _Mapping]] = ..., modality: _Optional[str] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("reason", "usage", "timings")
    REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    reason: _types_pb2.FinishReason
    usage: _types_pb2.Usage
    timings: _containers.RepeatedCompositeFieldContainer[NodeTiming]
    def __init__(self, reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Iterable[_Union[NodeTiming, _Mapping]]] = ...) -> None: ...

class NodeTiming(_message.Message):
    __slots__ = ("node", "start_s", "first_s", "end_s")
    NODE_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    FIRST_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    node: str
    start_s: float
    first_s: float
    end_s: float
    def __init__(self, node: _Optional[str] = ..., start_s: _Optional[float] = ..., first_s: _Optional[float] = ..., end_s: _Optional[float] = ...) -> None: ...

class ListSystemsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSystemsResponse(_message.Message):
    __slots__ = ("systems", "default_system")
    SYSTEMS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SYSTEM_FIELD_NUMBER: _ClassVar[int]
    systems: _containers.RepeatedCompositeFieldContainer[SystemSummary]
    default_system: str
    def __init__(self, systems: _Optional[_Iterable[_Union[SystemSummary, _Mapping]]] = ..., default_system: _Optional[str] = ...) -> None: ...

class SystemSummary(_message.Message):
    __slots__ = ("name", "source", "inputs", "outputs", "ready", "versions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    inputs: _containers.RepeatedScalarFieldContainer[str]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    ready: bool
    versions: _types_pb2.VersionSet
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., inputs: _Optional[_Iterable[str]] = ..., outputs: _Optional[_Iterable[str]] = ..., ready: bool = ..., versions: _Optional[_Union[_types_pb2.VersionSet, _Mapping]] = ...) -> None: ...

class DescribeSystemRequest(_message.Message):
    __slots__ = ("system",)
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    system: str
    def __init__(self, system: _Optional[str] = ...) -> None: ...

class DescribeSystemResponse(_message.Message):
    __slots__ = ("summary", "nodes", "limits")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    summary: SystemSummary
    nodes: _containers.RepeatedCompositeFieldContainer[NodeDescription]
    limits: Limits
    def __init__(self, summary: _Optional[_Union[SystemSummary, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[NodeDescription, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class NodeDescription(_message.Message):
    __slots__ = ("name", "kind", "type", "modality", "component", "replicas")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    type: str
    modality: str
    component: str
    replicas: int
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., type: _Optional[str] = ..., modality: _Optional[str] = ..., component: _Optional[str] = ..., replicas: _Optional[int] = ..., **kwargs) -> None: ...

class Limits(_message.Message):
    __slots__ = ("inline_media_bytes", "upload_bytes", "messages", "parts", "deadline_s")
    INLINE_MEDIA_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    inline_media_bytes: int
    upload_bytes: int
    messages: int
    parts: int
    deadline_s: float
    def __init__(self, inline_media_bytes: _Optional[int] = ..., upload_bytes: _Optional[int] = ..., messages: _Optional[int] = ..., parts: _Optional[int] = ..., deadline_s: _Optional[float] = ...) -> None: ...
