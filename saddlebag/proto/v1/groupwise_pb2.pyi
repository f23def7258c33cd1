from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeReply(_message.Message):
    __slots__ = ("protocol", "features", "groups", "bounded", "low", "high", "max_rows", "max_pending", "shard", "shards", "default", "meaning", "columns", "label", "targets", "given", "levels")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    BOUNDED_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    MEANING_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    features: _containers.RepeatedScalarFieldContainer[str]
    groups: _containers.RepeatedScalarFieldContainer[str]
    bounded: bool
    low: float
    high: float
    max_rows: int
    max_pending: int
    shard: int
    shards: int
    default: float
    meaning: str
    columns: _containers.RepeatedCompositeFieldContainer[ColumnAbout]
    label: ColumnAbout
    targets: _containers.RepeatedScalarFieldContainer[float]
    given: bool
    levels: int
    def __init__(self, protocol: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., groups: _Optional[_Iterable[str]] = ..., bounded: _Optional[bool] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., max_rows: _Optional[int] = ..., max_pending: _Optional[int] = ..., shard: _Optional[int] = ..., shards: _Optional[int] = ..., default: _Optional[float] = ..., meaning: _Optional[str] = ..., columns: _Optional[_Iterable[_Union[ColumnAbout, _Mapping]]] = ..., label: _Optional[_Union[ColumnAbout, _Mapping]] = ..., targets: _Optional[_Iterable[float]] = ..., given: _Optional[bool] = ..., levels: _Optional[int] = ...) -> None: ...

class ColumnAbout(_message.Message):
    __slots__ = ("name", "text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: bool
    def __init__(self, name: _Optional[str] = ..., text: _Optional[bool] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "numbers", "texts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    numbers: bytes
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., numbers: _Optional[bytes] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("features", "groups", "weights", "rows", "num_features", "num_groups", "columns", "given")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NUM_FEATURES_FIELD_NUMBER: _ClassVar[int]
    NUM_GROUPS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    features: bytes
    groups: bytes
    weights: bool
    rows: int
    num_features: int
    num_groups: int
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    given: bytes
    def __init__(self, features: _Optional[bytes] = ..., groups: _Optional[bytes] = ..., weights: _Optional[bool] = ..., rows: _Optional[int] = ..., num_features: _Optional[int] = ..., num_groups: _Optional[int] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., given: _Optional[bytes] = ...) -> None: ...

class PredictReply(_message.Message):
    __slots__ = ("first_ticket", "predictions", "weights", "low", "high", "calibrated")
    FIRST_TICKET_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    first_ticket: int
    predictions: bytes
    weights: bytes
    low: bytes
    high: bytes
    calibrated: bytes
    def __init__(self, first_ticket: _Optional[int] = ..., predictions: _Optional[bytes] = ..., weights: _Optional[bytes] = ..., low: _Optional[bytes] = ..., high: _Optional[bytes] = ..., calibrated: _Optional[bytes] = ...) -> None: ...

class PartialReply(_message.Message):
    __slots__ = ("first_ticket", "sums", "notes")
    FIRST_TICKET_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    first_ticket: int
    sums: bytes
    notes: bytes
    def __init__(self, first_ticket: _Optional[int] = ..., sums: _Optional[bytes] = ..., notes: _Optional[bytes] = ...) -> None: ...

class FeedbackRequest(_message.Message):
    __slots__ = ("tickets", "labels", "played", "label", "notes")
    TICKETS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PLAYED_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    tickets: bytes
    labels: bytes
    played: bytes
    label: Column
    notes: bytes
    def __init__(self, tickets: _Optional[bytes] = ..., labels: _Optional[bytes] = ..., played: _Optional[bytes] = ..., label: _Optional[_Union[Column, _Mapping]] = ..., notes: _Optional[bytes] = ...) -> None: ...

class FeedbackReply(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: bytes
    def __init__(self, outcomes: _Optional[bytes] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("predict", "feedback")
    PREDICT_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    predict: PredictRequest
    feedback: FeedbackRequest
    def __init__(self, predict: _Optional[_Union[PredictRequest, _Mapping]] = ..., feedback: _Optional[_Union[FeedbackRequest, _Mapping]] = ...) -> None: ...

class StreamReply(_message.Message):
    __slots__ = ("predict", "feedback")
    PREDICT_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    predict: PredictReply
    feedback: FeedbackReply
    def __init__(self, predict: _Optional[_Union[PredictReply, _Mapping]] = ..., feedback: _Optional[_Union[FeedbackReply, _Mapping]] = ...) -> None: ...

class AddGroupsRequest(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[NewGroup]
    def __init__(self, groups: _Optional[_Iterable[_Union[NewGroup, _Mapping]]] = ...) -> None: ...

class NewGroup(_message.Message):
    __slots__ = ("name", "rule", "prior")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    rule: str
    prior: float
    def __init__(self, name: _Optional[str] = ..., rule: _Optional[str] = ..., prior: _Optional[float] = ...) -> None: ...

class AddGroupsReply(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: int
    def __init__(self, groups: _Optional[int] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportReply(_message.Message):
    __slots__ = ("experts", "predicted", "learned", "repeated", "unknown", "pending", "forgotten", "fell_back", "orphans", "loss", "alarms", "coverage", "watched", "calibrated")
    EXPERTS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    LEARNED_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    FELL_BACK_FIELD_NUMBER: _ClassVar[int]
    ORPHANS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    WATCHED_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    experts: _containers.RepeatedCompositeFieldContainer[ExpertAccount]
    predicted: int
    learned: int
    repeated: int
    unknown: int
    pending: int
    forgotten: int
    fell_back: int
    orphans: int
    loss: float
    alarms: _containers.RepeatedScalarFieldContainer[str]
    coverage: _containers.RepeatedCompositeFieldContainer[Coverage]
    watched: _containers.RepeatedCompositeFieldContainer[FirstAlarm]
    calibrated: _containers.RepeatedCompositeFieldContainer[Calibrated]
    def __init__(self, experts: _Optional[_Iterable[_Union[ExpertAccount, _Mapping]]] = ..., predicted: _Optional[int] = ..., learned: _Optional[int] = ..., repeated: _Optional[int] = ..., unknown: _Optional[int] = ..., pending: _Optional[int] = ..., forgotten: _Optional[int] = ..., fell_back: _Optional[int] = ..., orphans: _Optional[int] = ..., loss: _Optional[float] = ..., alarms: _Optional[_Iterable[str]] = ..., coverage: _Optional[_Iterable[_Union[Coverage, _Mapping]]] = ..., watched: _Optional[_Iterable[_Union[FirstAlarm, _Mapping]]] = ..., calibrated: _Optional[_Iterable[_Union[Calibrated, _Mapping]]] = ...) -> None: ...

class Calibrated(_message.Message):
    __slots__ = ("group", "rounds", "error", "bound")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    group: str
    rounds: _containers.RepeatedScalarFieldContainer[float]
    error: _containers.RepeatedScalarFieldContainer[float]
    bound: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, group: _Optional[str] = ..., rounds: _Optional[_Iterable[float]] = ..., error: _Optional[_Iterable[float]] = ..., bound: _Optional[_Iterable[float]] = ...) -> None: ...

class FirstAlarm(_message.Message):
    __slots__ = ("kind", "group", "round")
    KIND_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    kind: str
    group: str
    round: int
    def __init__(self, kind: _Optional[str] = ..., group: _Optional[str] = ..., round: _Optional[int] = ...) -> None: ...

class Coverage(_message.Message):
    __slots__ = ("group", "target", "rounds", "held", "bound", "width")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    group: str
    target: float
    rounds: float
    held: float
    bound: float
    width: float
    def __init__(self, group: _Optional[str] = ..., target: _Optional[float] = ..., rounds: _Optional[float] = ..., held: _Optional[float] = ..., bound: _Optional[float] = ..., width: _Optional[float] = ...) -> None: ...

class ExpertAccount(_message.Message):
    __slots__ = ("name", "rounds", "loss", "own_loss", "regret", "bound", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    OWN_LOSS_FIELD_NUMBER: _ClassVar[int]
    REGRET_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    rounds: float
    loss: float
    own_loss: float
    regret: float
    bound: float
    weight: float
    def __init__(self, name: _Optional[str] = ..., rounds: _Optional[float] = ..., loss: _Optional[float] = ..., own_loss: _Optional[float] = ..., regret: _Optional[float] = ..., bound: _Optional[float] = ..., weight: _Optional[float] = ...) -> None: ...
