from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class JoinRequest(_message.Message):
    __slots__ = ("protocol", "worker", "recipe", "dimension", "rounds", "epoch", "token", "order", "checksum")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    worker: int
    recipe: str
    dimension: int
    rounds: _containers.RepeatedScalarFieldContainer[int]
    epoch: int
    token: str
    order: int
    checksum: int
    def __init__(self, protocol: _Optional[int] = ..., worker: _Optional[int] = ..., recipe: _Optional[str] = ..., dimension: _Optional[int] = ..., rounds: _Optional[_Iterable[int]] = ..., epoch: _Optional[int] = ..., token: _Optional[str] = ..., order: _Optional[int] = ..., checksum: _Optional[int] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("protocol", "epoch", "round", "resume", "fresh", "epoch_start", "session", "resolved", "members", "lease_s", "checkpoint_every", "heal", "merging", "counted", "share", "checksum")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    EPOCH_START_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_EVERY_FIELD_NUMBER: _ClassVar[int]
    HEAL_FIELD_NUMBER: _ClassVar[int]
    MERGING_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    epoch: int
    round: int
    resume: int
    fresh: bool
    epoch_start: int
    session: str
    resolved: str
    members: _containers.RepeatedScalarFieldContainer[int]
    lease_s: float
    checkpoint_every: int
    heal: bool
    merging: bool
    counted: int
    share: int
    checksum: int
    def __init__(self, protocol: _Optional[int] = ..., epoch: _Optional[int] = ..., round: _Optional[int] = ..., resume: _Optional[int] = ..., fresh: _Optional[bool] = ..., epoch_start: _Optional[int] = ..., session: _Optional[str] = ..., resolved: _Optional[str] = ..., members: _Optional[_Iterable[int]] = ..., lease_s: _Optional[float] = ..., checkpoint_every: _Optional[int] = ..., heal: _Optional[bool] = ..., merging: _Optional[bool] = ..., counted: _Optional[int] = ..., share: _Optional[int] = ..., checksum: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("epoch", "round", "sender", "sequence", "total", "digest", "final", "attempt", "samples", "steps", "counted", "data", "checksum")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    round: int
    sender: int
    sequence: int
    total: int
    digest: int
    final: bool
    attempt: int
    samples: int
    steps: int
    counted: bytes
    data: bytes
    checksum: int
    def __init__(self, epoch: _Optional[int] = ..., round: _Optional[int] = ..., sender: _Optional[int] = ..., sequence: _Optional[int] = ..., total: _Optional[int] = ..., digest: _Optional[int] = ..., final: _Optional[bool] = ..., attempt: _Optional[int] = ..., samples: _Optional[int] = ..., steps: _Optional[int] = ..., counted: _Optional[bytes] = ..., data: _Optional[bytes] = ..., checksum: _Optional[int] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ("checksum",)
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    checksum: int
    def __init__(self, checksum: _Optional[int] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("epoch", "round", "total", "data", "checksum")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    round: int
    total: int
    data: bytes
    checksum: int
    def __init__(self, epoch: _Optional[int] = ..., round: _Optional[int] = ..., total: _Optional[int] = ..., data: _Optional[bytes] = ..., checksum: _Optional[int] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("frames", "cost", "checksum")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    frames: int
    cost: bool
    checksum: int
    def __init__(self, frames: _Optional[int] = ..., cost: _Optional[bool] = ..., checksum: _Optional[int] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("epoch", "round", "frames", "stream", "up_bytes", "down_bytes", "spent_s", "checksum")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    UP_BYTES_FIELD_NUMBER: _ClassVar[int]
    DOWN_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPENT_S_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    round: int
    frames: int
    stream: bool
    up_bytes: int
    down_bytes: int
    spent_s: float
    checksum: int
    def __init__(self, epoch: _Optional[int] = ..., round: _Optional[int] = ..., frames: _Optional[int] = ..., stream: _Optional[bool] = ..., up_bytes: _Optional[int] = ..., down_bytes: _Optional[int] = ..., spent_s: _Optional[float] = ..., checksum: _Optional[int] = ...) -> None: ...

class SecureRequest(_message.Message):
    __slots__ = ("epoch", "round", "step", "attempt", "data", "checksum")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    round: int
    step: int
    attempt: int
    data: bytes
    checksum: int
    def __init__(self, epoch: _Optional[int] = ..., round: _Optional[int] = ..., step: _Optional[int] = ..., attempt: _Optional[int] = ..., data: _Optional[bytes] = ..., checksum: _Optional[int] = ...) -> None: ...

class SecureReply(_message.Message):
    __slots__ = ("outcome", "attempt", "data", "checksum")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    outcome: int
    attempt: int
    data: bytes
    checksum: int
    def __init__(self, outcome: _Optional[int] = ..., attempt: _Optional[int] = ..., data: _Optional[bytes] = ..., checksum: _Optional[int] = ...) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ("reason", "checksum")
    REASON_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    reason: str
    checksum: int
    def __init__(self, reason: _Optional[str] = ..., checksum: _Optional[int] = ...) -> None: ...

class LeaveReply(_message.Message):
    __slots__ = ("checksum",)
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    checksum: int
    def __init__(self, checksum: _Optional[int] = ...) -> None: ...

class OfferPiece(_message.Message):
    __slots__ = ("protocol", "terms", "token", "total", "data", "worker", "checksum")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    terms: str
    token: str
    total: int
    data: bytes
    worker: int
    checksum: int
    def __init__(self, protocol: _Optional[int] = ..., terms: _Optional[str] = ..., token: _Optional[str] = ..., total: _Optional[int] = ..., data: _Optional[bytes] = ..., worker: _Optional[int] = ..., checksum: _Optional[int] = ...) -> None: ...

class OfferReply(_message.Message):
    __slots__ = ("wanted", "taken", "checksum")
    WANTED_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    wanted: bool
    taken: bool
    checksum: int
    def __init__(self, wanted: _Optional[bool] = ..., taken: _Optional[bool] = ..., checksum: _Optional[int] = ...) -> None: ...
