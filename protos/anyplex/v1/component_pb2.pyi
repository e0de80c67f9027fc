from anyplex.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("card",)
    CARD_FIELD_NUMBER: _ClassVar[int]
    card: ContractCard
    def __init__(self, card: _Optional[_Union[ContractCard, _Mapping]] = ...) -> None: ...

class ContractCard(_message.Message):
    __slots__ = ("contract", "kind", "type", "architecture", "modalities", "input_width", "output_width", "tokens_per_item", "max_tokens_per_item", "reads_prompt", "cross_memory", "signals", "tokenizer_fingerprint", "context_tokens", "versions", "dtype", "queue_limit", "adds_input_embeddings", "token_counts", "conditioning")
    class SignalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class TokenCountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: TokenCount
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[TokenCount, _Mapping]] = ...) -> None: ...
    class ConditioningEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConditioningShape
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConditioningShape, _Mapping]] = ...) -> None: ...
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    MODALITIES_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_ITEM_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_PER_ITEM_FIELD_NUMBER: _ClassVar[int]
    READS_PROMPT_FIELD_NUMBER: _ClassVar[int]
    CROSS_MEMORY_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ADDS_INPUT_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNTS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONING_FIELD_NUMBER: _ClassVar[int]
    contract: str
    kind: str
    type: str
    architecture: str
    modalities: _containers.RepeatedScalarFieldContainer[str]
    input_width: int
    output_width: int
    tokens_per_item: int
    max_tokens_per_item: int
    reads_prompt: bool
    cross_memory: bool
    signals: _containers.ScalarMap[str, int]
    tokenizer_fingerprint: str
    context_tokens: int
    versions: _containers.RepeatedCompositeFieldContainer[HeldVersion]
    dtype: _types_pb2.DataType
    queue_limit: int
    adds_input_embeddings: bool
    token_counts: _containers.MessageMap[str, TokenCount]
    conditioning: _containers.MessageMap[str, ConditioningShape]
    def __init__(self, contract: _Optional[str] = ..., kind: _Optional[str] = ..., type: _Optional[str] = ..., architecture: _Optional[str] = ..., modalities: _Optional[_Iterable[str]] = ..., input_width: _Optional[int] = ..., output_width: _Optional[int] = ..., tokens_per_item: _Optional[int] = ..., max_tokens_per_item: _Optional[int] = ..., reads_prompt: bool = ..., cross_memory: bool = ..., signals: _Optional[_Mapping[str, int]] = ..., tokenizer_fingerprint: _Optional[str] = ..., context_tokens: _Optional[int] = ..., versions: _Optional[_Iterable[_Union[HeldVersion, _Mapping]]] = ..., dtype: _Optional[_Union[_types_pb2.DataType, str]] = ..., queue_limit: _Optional[int] = ..., adds_input_embeddings: bool = ..., token_counts: _Optional[_Mapping[str, TokenCount]] = ..., conditioning: _Optional[_Mapping[str, ConditioningShape]] = ...) -> None: ...

class ConditioningShape(_message.Message):
    __slots__ = ("sizes", "optional")
    SIZES_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    sizes: _containers.RepeatedScalarFieldContainer[int]
    optional: bool
    def __init__(self, sizes: _Optional[_Iterable[int]] = ..., optional: bool = ...) -> None: ...

class TokenCount(_message.Message):
    __slots__ = ("fixed_tokens", "tokens_per_unit", "unit", "max_units")
    FIXED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_UNIT_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    MAX_UNITS_FIELD_NUMBER: _ClassVar[int]
    fixed_tokens: int
    tokens_per_unit: int
    unit: str
    max_units: int
    def __init__(self, fixed_tokens: _Optional[int] = ..., tokens_per_unit: _Optional[int] = ..., unit: _Optional[str] = ..., max_units: _Optional[int] = ...) -> None: ...

class HeldVersion(_message.Message):
    __slots__ = ("version", "config_hash", "adapter")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_HASH_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    version: str
    config_hash: str
    adapter: bool
    def __init__(self, version: _Optional[str] = ..., config_hash: _Optional[str] = ..., adapter: bool = ...) -> None: ...

class LoadVersionRequest(_message.Message):
    __slots__ = ("version", "adapter")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    version: str
    adapter: bool
    def __init__(self, version: _Optional[str] = ..., adapter: bool = ...) -> None: ...

class LoadVersionResponse(_message.Message):
    __slots__ = ("card",)
    CARD_FIELD_NUMBER: _ClassVar[int]
    card: ContractCard
    def __init__(self, card: _Optional[_Union[ContractCard, _Mapping]] = ...) -> None: ...

class UnloadVersionRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class UnloadVersionResponse(_message.Message):
    __slots__ = ("card",)
    CARD_FIELD_NUMBER: _ClassVar[int]
    card: ContractCard
    def __init__(self, card: _Optional[_Union[ContractCard, _Mapping]] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("waiting", "running", "finished", "failed", "tensors", "tensor_bytes", "resident_bytes", "uptime_s", "cold_start_s")
    WAITING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    TENSOR_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    COLD_START_S_FIELD_NUMBER: _ClassVar[int]
    waiting: int
    running: int
    finished: int
    failed: int
    tensors: int
    tensor_bytes: int
    resident_bytes: int
    uptime_s: float
    cold_start_s: float
    def __init__(self, waiting: _Optional[int] = ..., running: _Optional[int] = ..., finished: _Optional[int] = ..., failed: _Optional[int] = ..., tensors: _Optional[int] = ..., tensor_bytes: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., uptime_s: _Optional[float] = ..., cold_start_s: _Optional[float] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("tensor_id",)
    TENSOR_ID_FIELD_NUMBER: _ClassVar[int]
    tensor_id: str
    def __init__(self, tensor_id: _Optional[str] = ...) -> None: ...

class FetchResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("released",)
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    released: int
    def __init__(self, released: _Optional[int] = ...) -> None: ...
