from anyplex.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApplySystemRequest(_message.Message):
    __slots__ = ("system_yaml", "profile_yaml", "dry_run")
    SYSTEM_YAML_FIELD_NUMBER: _ClassVar[int]
    PROFILE_YAML_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    system_yaml: str
    profile_yaml: str
    dry_run: bool
    def __init__(self, system_yaml: _Optional[str] = ..., profile_yaml: _Optional[str] = ..., dry_run: bool = ...) -> None: ...

class ApplySystemResponse(_message.Message):
    __slots__ = ("line", "done")
    LINE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    line: str
    done: bool
    def __init__(self, line: _Optional[str] = ..., done: bool = ...) -> None: ...

class DeleteSystemRequest(_message.Message):
    __slots__ = ("system",)
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    system: str
    def __init__(self, system: _Optional[str] = ...) -> None: ...

class DeleteSystemResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RegisterVersionRequest(_message.Message):
    __slots__ = ("version", "annotations")
    class AnnotationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    version: str
    annotations: _containers.ScalarMap[str, str]
    def __init__(self, version: _Optional[str] = ..., annotations: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RegisterVersionResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("system", "page_size", "page_token")
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    system: str
    page_size: int
    page_token: str
    def __init__(self, system: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions", "next_page_token")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[KnownVersion]
    next_page_token: str
    def __init__(self, versions: _Optional[_Iterable[_Union[KnownVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class KnownVersion(_message.Message):
    __slots__ = ("version", "kind", "type", "annotations", "live_in")
    class AnnotationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    LIVE_IN_FIELD_NUMBER: _ClassVar[int]
    version: str
    kind: str
    type: str
    annotations: _containers.ScalarMap[str, str]
    live_in: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[str] = ..., kind: _Optional[str] = ..., type: _Optional[str] = ..., annotations: _Optional[_Mapping[str, str]] = ..., live_in: _Optional[_Iterable[str]] = ...) -> None: ...

class SwapRequest(_message.Message):
    __slots__ = ("system", "slots", "canary_share", "gate_suite", "gate_thresholds", "idempotency_key", "gate_limits")
    class SlotsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class GateThresholdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class GateLimitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    CANARY_SHARE_FIELD_NUMBER: _ClassVar[int]
    GATE_SUITE_FIELD_NUMBER: _ClassVar[int]
    GATE_THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    GATE_LIMITS_FIELD_NUMBER: _ClassVar[int]
    system: str
    slots: _containers.ScalarMap[str, str]
    canary_share: float
    gate_suite: str
    gate_thresholds: _containers.ScalarMap[str, float]
    idempotency_key: str
    gate_limits: _containers.ScalarMap[str, float]
    def __init__(self, system: _Optional[str] = ..., slots: _Optional[_Mapping[str, str]] = ..., canary_share: _Optional[float] = ..., gate_suite: _Optional[str] = ..., gate_thresholds: _Optional[_Mapping[str, float]] = ..., idempotency_key: _Optional[str] = ..., gate_limits: _Optional[_Mapping[str, float]] = ...) -> None: ...

class SwapResponse(_message.Message):
    __slots__ = ("phase", "line", "rollout_id")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    phase: str
    line: str
    rollout_id: str
    def __init__(self, phase: _Optional[str] = ..., line: _Optional[str] = ..., rollout_id: _Optional[str] = ...) -> None: ...

class GetRolloutRequest(_message.Message):
    __slots__ = ("rollout_id", "system")
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    rollout_id: str
    system: str
    def __init__(self, rollout_id: _Optional[str] = ..., system: _Optional[str] = ...) -> None: ...

class GetRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("rollout_id", "before", "after", "state", "reason", "scores", "canary_share")
    class ScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    CANARY_SHARE_FIELD_NUMBER: _ClassVar[int]
    rollout_id: str
    before: _types_pb2.VersionSet
    after: _types_pb2.VersionSet
    state: str
    reason: str
    scores: _containers.ScalarMap[str, float]
    canary_share: float
    def __init__(self, rollout_id: _Optional[str] = ..., before: _Optional[_Union[_types_pb2.VersionSet, _Mapping]] = ..., after: _Optional[_Union[_types_pb2.VersionSet, _Mapping]] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., scores: _Optional[_Mapping[str, float]] = ..., canary_share: _Optional[float] = ...) -> None: ...

class PromoteRequest(_message.Message):
    __slots__ = ("rollout_id",)
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    rollout_id: str
    def __init__(self, rollout_id: _Optional[str] = ...) -> None: ...

class PromoteResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("system",)
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    system: str
    def __init__(self, system: _Optional[str] = ...) -> None: ...

class RollBackResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _types_pb2.VersionSet
    def __init__(self, versions: _Optional[_Union[_types_pb2.VersionSet, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("system",)
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    system: str
    def __init__(self, system: _Optional[str] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("versions", "generation")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    versions: _types_pb2.VersionSet
    generation: int
    def __init__(self, versions: _Optional[_Union[_types_pb2.VersionSet, _Mapping]] = ..., generation: _Optional[int] = ...) -> None: ...
