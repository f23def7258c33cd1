"""The prediction service as a state machine: rows and labels in, predictions and outcomes out; no socket, clock or file here.

    predict    the present state, frozen for the batch, predicts all its rows; each row gets a ticket
    feedback   tickets and labels, learned one by one in the order given; losses come from the predictions as they were made

Late, repeated and lost labels are harmless: a ticket is applied once, and a round without a label is nobody's round. The
state is a function of the sequence of calls, so a journal of the calls restores it bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import (
    Alarm,
    Block,
    Calibration,
    FeatureBounds,
    Groupwise,
    GroupwiseState,
    Intervals,
    PartialMix,
    Seen,
    Specialists,
    Watch,
    distribution,
    pack_state,
    partial_mix,
    predict_block,
    shard_bound,
    unpack_state,
    wrong_label,
)
from saddlebag.algorithms.groupwise.guard import LARGEST, checked
from saddlebag.algorithms.groupwise.packing import pack_part, unpack_part
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError, NotFiniteError, RemoteProtocolError, StateError
from saddlebag.proto.groupwise import rows_of_a_frame
from saddlebag.server.groupwise.meaning import changes, describe
from saddlebag.server.groupwise.tickets import APPLIED, REFUSED, REPEATED, UNKNOWN, Tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise import Prediction
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["Account", "Covering", "GroupwiseCore", "Levels", "Offer", "ServiceSettings"]


_SHOWN = 5  # changes that a refusal names
MOST_ADDED = 1000
"""Groups that join a running service: each takes a model's memory."""
_LONGEST_NAME = 200
_SAID_SINCE = ("intervals", "alarms")  # 0.3: a checkpoint of before says nothing of them


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What the service is about and how much it holds.

    Attributes:
        features, groups: names of the columns of an encoded row and of the groups.
        max_rows: most rows or labels of a request.
        max_pending: most tickets that wait for labels.
        seed: of randomised learners and sampled outputs.
        bounds: of features; see `FeatureBounds`.
        meaning: what features, groups and labels are, as JSON values (`meaning.py`); names alone where it is empty. A
            checkpoint of another meaning is refused.
        intervals: to give out with every prediction; None for none.
        calibration: of probabilities, given out beside every prediction; None for none.
        watch: alarms that hold at all times; None for none.
        given: intervals go around the user's own predictions, which come with the rows.
        shard, shards: which share of the groups this is, of how many. The prior of a share's groups sums to less than 1.
    """

    features: tuple[str, ...]
    groups: tuple[str, ...]
    max_rows: int = 4096
    max_pending: int = 1_000_000
    seed: int = 0
    bounds: FeatureBounds = dataclasses.field(default_factory=FeatureBounds)
    meaning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    intervals: Intervals | None = None
    calibration: Calibration | None = None
    watch: Watch | None = None
    given: bool = False
    shard: int = 0
    shards: int = 1

    def __post_init__(self) -> None:
        for name in ("features", "groups"):
            names = getattr(self, name)
            if not names or len(set(names)) != len(names):
                raise ConfigError(f"{name} must be different names, at least one, got {', '.join(names) or 'none'}")
        if not 0 <= self.shard < self.shards:
            raise ConfigError(f"a shard must be one of 0 to {self.shards - 1}, got {self.shard}")
        for name in ("max_rows", "max_pending"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class Account:
    """One expert's line in the report; see `Ledger`."""

    name: str
    rounds: float
    loss: float
    own_loss: float
    regret: float
    bound: float
    weight: float


@dataclasses.dataclass(frozen=True)
class Covering:
    """What came of a group's intervals: the share of labels held, the proven bound on its error, and the mean width."""

    group: str
    target: float
    rounds: float
    held: float
    bound: float
    width: float


@dataclasses.dataclass(frozen=True, eq=False)
class Offer:
    """What is given out for some rows.

    Attributes:
        first: the first row's ticket.
        block: the predictions.
        low_NM, high_NM: the ends of the intervals, a column for each target.
        calibrated_N: probabilities corrected for every group and level; None for none.
    """

    first: int
    block: Block
    low_NM: Array
    high_NM: Array
    calibrated_N: Array | None


@dataclasses.dataclass(frozen=True)
class Levels:
    """What came of a group's calibrated probabilities, level by level: rounds, the mean of label - p, and its proven bound."""

    group: str
    rounds: tuple[float, ...]
    error: tuple[float, ...]
    bound: tuple[float, ...]


def _nothing() -> None:
    """No journal."""


def _without_edges(told: dict[str, Any]) -> dict[str, Any]:
    """Alarms without the cells of features, which come from the table of the first start, as its other constants do."""
    return {key: value for key, value in told.items() if key not in ("kind", "edges")}


class GroupwiseCore:
    """The service's state."""

    def __init__(self, algorithm: Groupwise, settings: ServiceSettings, prior_G: Array | None = None) -> None:
        if settings.shards > 1 and (algorithm.charge, algorithm.output) != ("played", "mixture"):
            raise ConfigError(
                "shards need output 'mixture' and charge 'played': they learn of a round one number, what was played"
            )
        if settings.shards > 1 and isinstance(algorithm.mixer, Specialists):
            raise ConfigError("shards cannot hold specialists, whose weights need every expert's loss; take ada_normal_hedge")
        self.algorithm, self.settings = algorithm, settings
        _ = algorithm.single  # compiled now, where it is at all, and not while a client waits
        self.state: GroupwiseState = algorithm.init(len(settings.groups), prior_G)
        self.intervals = settings.intervals
        self.intervals_state = None if self.intervals is None else self.intervals.init(len(settings.groups))
        self.calibration = settings.calibration
        self.calibration_state = None if self.calibration is None else self.calibration.init(len(settings.groups))
        self.watch = settings.watch
        if self.watch is not None and settings.shards > 1:
            raise ConfigError("alarms: a share of the groups does not know the single model's loss; serve without shards")
        self.watch_state = None if self.watch is None else self.watch.init(len(settings.groups))
        self.tickets = Tickets(settings.max_pending)
        self.learned = self.repeated = self.unknown = self.refused = 0
        self._weighed: tuple[Any, Array] | None = None
        self._max_rows, self._bounds = settings.max_rows, settings.bounds
        self.features: list[dict[str, Any]] = list(
            settings.meaning.get("features", [{"name": name} for name in settings.features])
        )

    @property
    def meaning(self) -> dict[str, Any]:
        """What the numbers of the state mean; see `meaning.py`."""
        settings = self.settings
        names = {kind: [{"name": name} for name in getattr(settings, kind)] for kind in ("features", "groups")}
        share = {"shard": settings.shard, "shards": settings.shards}
        return {
            **names,
            **settings.meaning,
            "features": self.features,
            **share,
            "seed": settings.seed,
            "algorithm": describe(self.algorithm),
            **({} if self.calibration is None else {"calibration": describe(self.calibration)}),
            "intervals": self._told_of_intervals(),
            "alarms": None if self.watch is None else _without_edges(describe(self.watch)),
        }

    def _told_of_intervals(self) -> dict[str, Any] | None:
        """What intervals depend on, by the keys of a recipe."""
        if self.intervals is None:
            return None
        rule, scorer = self.intervals.rule, self.intervals.scorer
        told = {"targets": list(rule.targets), "score": scorer.name, "form": rule.form, "step": rule.step}
        return {**told, "given": self.settings.given, "binary": self.intervals.binary}

    @property
    def expert_names(self) -> list[str]:
        """The groups, then the shadows of the always-on learner."""
        groups, always_on = list(self.settings.groups), self.algorithm.always_on
        if not self.algorithm.shadows or always_on is None:
            return groups
        return groups + [f"{groups[always_on]} on {name}" for g, name in enumerate(groups) if g != always_on]

    # -- calls -----------------------------------------------------------------------------------------------------------

    def predict(
        self, x_ND: Array, member_NG: npt.NDArray[np.bool_], record: Callable[[], None] = _nothing, *, owner: int = 0
    ) -> tuple[int, Block]:
        """Predict rows; returns the first ticket and the predictions. `record` is called once the request is known to be valid.

        The tickets belong to the client `owner`, a number of 64 bits; 0 is everybody who shows no identity.

        Raises:
            RemoteProtocolError: a feature is not finite or beyond its bound, or there are too many rows or columns.
            NotFiniteError: a prediction is not finite. Nothing is on record then.
        """
        offer = self.offer(x_ND, member_NG, record, owner=owner)
        return offer.first, offer.block

    def offer(
        self,
        x_ND: Array,
        member_NG: npt.NDArray[np.bool_],
        record: Callable[[], None] = _nothing,
        *,
        given_N: Array | None = None,
        owner: int = 0,
    ) -> Offer:
        """As `predict`, with all that goes with it; intervals go around `given_N`, the user's own predictions, if given."""
        if self.settings.shards > 1:
            raise RemoteProtocolError(
                f"this server holds shard {self.settings.shard} of {self.settings.shards}: ask for Partial"
            )
        first, block, note_NK, calibrated_N = self._open(self._check_table(x_ND, member_NG), member_NG, record, given_N, owner)
        low_NM = high_NM = np.empty((len(x_ND), 0))
        if self.intervals is not None:
            low_NM, high_NM = self.intervals.ends(note_NK)
        return Offer(first, block, low_NM, high_NM, calibrated_N)

    def partial(
        self,
        x_ND: Array,
        member_NG: npt.NDArray[np.bool_],
        record: Callable[[], None] = _nothing,
        *,
        given_N: Array | None = None,
        owner: int = 0,
    ) -> tuple[int, PartialMix, Array]:
        """This share's part of a prediction, and of the notes of intervals and calibration; errors as `predict`.

        Its tickets want what was played beside the label, and the notes of all shares, joined.
        """
        first, block, note_NK, _ = self._open(self._check_table(x_ND, member_NG), member_NG, record, given_N, owner)
        if self.calibration is not None and self.calibration_state is not None:
            note_NK = np.hstack((note_NK, self.calibration.notes(self.calibration_state, member_NG)))
        mixer = self.state.mixer
        return first, partial_mix(self._log_weight_E(), mixer.prior_E, block.awake_NE, block.z_NE), note_NK

    def _open(
        self,
        x_ND: Array,
        member_NG: npt.NDArray[np.bool_],
        record: Callable[[], None],
        given_N: Array | None,
        owner: int,
    ) -> tuple[int, Block, Array, Array | None]:
        """What a ticket keeps of a row: its features and, beside them, the interval's note and the calibrated probability."""
        first = self.tickets.next
        seed = self.settings.seed
        block = predict_block(
            self.algorithm, self.state, x_ND, member_NG, lambda row: Draws(seed, first + row), self._log_weight_E()
        )
        note_NK, calibrated_N = np.empty((len(x_ND), 0)), None
        if self.intervals is not None and self.intervals_state is not None:
            whole = self.settings.shards == 1
            centre_N = given_N if given_N is not None else block.value_N if whole else np.zeros(len(x_ND))
            note_NK = self.intervals.notes(self.intervals_state, x_ND, centre_N, member_NG)
            x_ND = np.hstack((x_ND, note_NK))
        if self.calibration is not None and self.calibration_state is not None and self.settings.shards == 1:
            calibrated_N = self.calibration.play_rows(self.calibration_state, np.clip(block.value_N, 0.0, 1.0), member_NG)
            x_ND = np.column_stack((x_ND, calibrated_N))
        record()  # last: what is on record is answered
        return self.tickets.open(x_ND, block, owner), block, note_NK, calibrated_N

    def _log_weight_E(self) -> Array:
        """The mixer's weights, which change with labels only."""
        if self._weighed is None or self._weighed[0] is not self.state.mixer:
            self._weighed = (self.state.mixer, self.algorithm.mixer.log_weights(self.state.mixer))
        return self._weighed[1]

    def _check_table(self, x_ND: Array, member_NG: npt.NDArray[np.bool_]) -> Array:
        """The rows within their bounds."""
        rows, features = x_ND.shape
        if features != len(self.settings.features) or member_NG.shape != (rows, len(self.settings.groups)):
            expected = f"{len(self.settings.features)} features and {len(self.settings.groups)} groups"
            raise RemoteProtocolError(f"rows need {expected}, got {features} and {member_NG.shape[1:]}")
        self.check_rows(rows)
        found = self._bounds.wrong(x_ND)
        if found is not None:
            row, column, limit = found
            name = self.settings.features[column]
            raise RemoteProtocolError(f"feature {name!r} of row {row} is {x_ND[row, column]}, beyond its bound {limit:g}")
        return self._bounds.taken(x_ND)

    def feedback(
        self,
        ticket_N: Sequence[int] | npt.NDArray[np.uint64],
        label_N: Array,
        record: Callable[[], None] = _nothing,
        *,
        played_N: Array | None = None,
        joined_NK: Array | None = None,
        owner: int = 0,
    ) -> npt.NDArray[np.uint8]:
        """Learn labels; returns what came of each: APPLIED, REPEATED, UNKNOWN or REFUSED. `record` as in `predict`.

        REFUSED is a label after which the state would not be finite: nothing is learned from it, and an alarm counts it.

        A share of the groups needs `played_N`, the predictions that all shares made together, and `joined_NK`: with intervals
        what `join_notes` made of the notes of all, and with calibration, as the last column, the probability given out.

        Raises:
            RemoteProtocolError: a label is not finite or lies outside the declared interval, there are too many, or an open
                ticket was given to another client than `owner`. Nothing is learned then.
        """
        if len(ticket_N) != len(label_N):
            raise RemoteProtocolError(f"{len(ticket_N)} tickets came with {len(label_N)} labels")
        self.check_rows(len(ticket_N))
        wrong = wrong_label(label_N, self.algorithm.label_interval)
        if wrong is not None:
            raise RemoteProtocolError(f"label {wrong[0]} {wrong[1]}")
        if (played_N is None) != (self.settings.shards == 1):
            raise RemoteProtocolError("played values come with the labels of a shard, and only there")
        if played_N is not None and (played_N.shape != label_N.shape or not np.isfinite(played_N).all()):
            raise RemoteProtocolError(f"{len(label_N)} labels need as many finite played values")
        self._check_joined(joined_NK, len(label_N))
        self.tickets.check_owner(map(int, ticket_N), owner)
        record()
        outcome_N = np.empty(len(label_N), np.uint8)
        for n, (ticket, label) in enumerate(zip(ticket_N, label_N, strict=True)):
            outcome_N[n], x_D, prediction = self._taken(int(ticket))
            if x_D is None or prediction is None:
                continue
            if played_N is not None:
                prediction = dataclasses.replace(prediction, value=played_N[n])
            try:
                self._learn(x_D, float(label), prediction, None if joined_NK is None else joined_NK[n])
            except NotFiniteError:  # nobody's round, then; the call is on record, and will end alike when it is read again
                outcome_N[n] = REFUSED
        self.refused += int(np.count_nonzero(outcome_N == REFUSED))
        self.learned += int(np.count_nonzero(outcome_N == APPLIED))
        self.repeated += int(np.count_nonzero(outcome_N == REPEATED))
        self.unknown += int(np.count_nonzero(outcome_N == UNKNOWN))
        return outcome_N

    def _taken(self, ticket: int) -> tuple[int, Array | None, Prediction | None]:
        """A ticket taken back, its prediction among the experts of now: those that have joined since slept."""
        outcome, x_D, prediction = self.tickets.close(ticket)
        if prediction is not None and len(prediction.p_E) < len(self.state.ledger.count_E):
            prediction = self.algorithm.widened(prediction, len(self.settings.groups))
        return outcome, x_D, prediction

    def grow(self, groups: Sequence[Mapping[str, Any]], record: Callable[[], None] = _nothing) -> None:
        """Add groups at the end, {"name", "rule", "prior"} each; predictions that wait for their labels slept in them.

        Raises:
            RemoteProtocolError: a name or prior is wrong, there are too many, or this service takes none.
        """
        self._check_new(groups)
        record()
        K, settings = len(groups), self.settings
        self.state = self.algorithm.grow(self.state, np.array([float(group["prior"]) for group in groups]))
        if self.intervals is not None and self.intervals_state is not None:
            self.intervals_state = self.intervals.grow(self.intervals_state, K)
        if self.calibration is not None and self.calibration_state is not None:
            self.calibration_state = self.calibration.grow(self.calibration_state, K)
        known = settings.meaning.get("groups", [{"name": name} for name in settings.groups])
        meaning = {**settings.meaning, "groups": [*known, *({**group, "added": True} for group in groups)]}
        names = (*settings.groups, *(str(group["name"]) for group in groups))
        most = min(settings.max_rows, rows_of_a_frame(len(settings.features), len(names)))
        self.settings = dataclasses.replace(settings, groups=names, meaning=meaning, max_rows=most)
        self._max_rows = min(self._max_rows, most)

    @property
    def added(self) -> list[dict[str, Any]]:
        """The groups that have joined."""
        return [group for group in self.settings.meaning.get("groups", ()) if group.get("added")]

    def _check_new(self, groups: Sequence[Mapping[str, Any]]) -> None:
        if self.settings.shards > 1:
            raise RemoteProtocolError("a share of the groups takes no more: they belong to one of several servers")
        if self.watch is not None:
            raise RemoteProtocolError("a service with [alarms] takes no more groups: the rate is divided among those there are")
        if not groups or len(self.added) + len(groups) > MOST_ADDED:
            raise RemoteProtocolError(f"1 to {MOST_ADDED} groups join a service, got {len(groups)} beside {len(self.added)}")
        names = [str(group["name"]) for group in groups]
        for group, name in zip(groups, names, strict=True):
            if not 0 < len(name) <= _LONGEST_NAME or name in self.settings.groups or names.count(name) > 1:
                raise RemoteProtocolError(
                    f"a new group needs a name of its own, of 1 to {_LONGEST_NAME} characters, got {name[:60]!r}"
                )
            if not 0.0 < group["prior"] <= 1.0:
                raise RemoteProtocolError(f"the prior of group {name!r} must lie in (0, 1], got {group['prior']}")

    def _check_joined(self, joined_NK: Array | None, rows: int) -> None:
        needed = self.settings.shards > 1 and (self.intervals is not None or self.calibration is not None)
        if (joined_NK is not None) != needed:
            raise RemoteProtocolError(
                "notes come with the labels of a shard that gives out intervals or calibrated probabilities, and only there"
            )
        if joined_NK is None:
            return
        width = (0 if self.intervals is None else self.intervals.width) + (self.calibration is not None)
        fine = joined_NK.shape == (rows, width) and bool((np.abs(joined_NK) <= LARGEST).all())
        if fine and self.intervals is not None:
            end = self.intervals.width
            fine = bool((joined_NK[:, end - len(self.intervals.rule.targets) : end] > 0).all())
        if fine and self.calibration is not None:
            fine = bool(((joined_NK[:, -1] >= 0.0) & (joined_NK[:, -1] <= 1.0)).all())
        if not fine:
            raise RemoteProtocolError(f"{rows} labels need notes of {width} finite numbers each, joined over all shards")

    def _learn(self, x_D: Array, y: float, prediction: Prediction, joined_K: Array | None) -> None:
        """Learn a label: intervals judge it as they were given out, and are changed only if everything can be learned."""
        D, G = len(self.settings.features), len(self.settings.groups)
        after, row_D, note_K = self.intervals_state, x_D[:D], None
        if self.intervals is not None and after is not None:
            note_K = (x_D[D:] if joined_K is None else joined_K)[: self.intervals.width]
            after = self.intervals.learn(after, row_D, y, prediction.awake_E[:G], note_K)
        self.state = self.algorithm.learn(self.state, row_D, y, prediction, owned=True)
        self.intervals_state = after
        if self.calibration is not None and self.calibration_state is not None:
            p = float((x_D if joined_K is None else joined_K)[-1])
            told = (min(max(float(prediction.value), 0.0), 1.0), p, y)
            self.calibration_state = self.calibration.learn(self.calibration_state, *told, prediction.awake_E[:G])
        if self.watch is not None and self.watch_state is not None:
            self.watch.see(self.watch_state, self._seen(row_D, y, prediction, note_K))

    def _seen(self, x_D: Array, y: float, prediction: Prediction, note_K: Array | None) -> Seen:
        """A round as alarms see it."""
        algorithm, single = self.algorithm, 0.0
        ours = float(algorithm.loss.value(np.asarray(prediction.value), np.asarray(y)))
        if algorithm.charge == "expected":
            ours = float(prediction.p_E @ algorithm.loss.value(prediction.z_E, np.asarray(y)))
        if algorithm.always_on is not None:
            single = float(algorithm.loss.value(prediction.z_E[algorithm.always_on], np.asarray(y)))
        missed_M = None
        if self.intervals is not None and note_K is not None and self.intervals.knows(note_K):
            missed_M = self.intervals.missed(note_K, y)
        awake_G = prediction.awake_E[: len(self.settings.groups)]
        return Seen(awake_G=awake_G, x_D=x_D, p=float(prediction.value), y=y, excess=ours - single, missed_M=missed_M)

    def check_rows(self, rows: int) -> None:
        """Raise `RemoteProtocolError` where a request has too many rows, or none."""
        if not 1 <= rows <= self._max_rows:
            raise RemoteProtocolError(f"a request needs 1 to {self._max_rows} rows, got {rows}")

    # -- reports ---------------------------------------------------------------------------------------------------------

    def accounts(self) -> list[Account]:
        """Every expert's account."""
        ledger, mixer = self.state.ledger, self.state.mixer
        bound_E = self.algorithm.mixer.bound(mixer)
        if self.settings.shards > 1:
            bound_E = shard_bound(self.algorithm.mixer, mixer, ledger.rounds, 1.0 - float(mixer.prior_E.sum()))
        everyone_E = np.ones(len(ledger.count_E))
        weight_E = distribution(self.algorithm.mixer.log_weights(mixer), mixer.prior_E, everyone_E).p_E
        columns = (ledger.count_E, ledger.charged_E, ledger.loss_E, ledger.regret_E, bound_E, weight_E)
        rows = zip(self.expert_names, *(map(float, column) for column in columns), strict=True)
        return [Account(*row) for row in rows]

    def alarms(self) -> tuple[Alarm, ...]:
        """What the theory rules out and has happened."""
        found = self.algorithm.alarms(self.state)
        if self.settings.shards > 1:  # the others compare with what all experts together may spend
            found = tuple(alarm for alarm in found if alarm.what in ("finite", "range"))
        if self.refused:
            found += (Alarm("finite", (), f"{self.refused} labels were refused: the state would not have been finite"),)
        return found

    def watched(self) -> list[tuple[str, str, int]]:
        """Kind, group and round of every first alarm."""
        if self.watch is None or self.watch_state is None:
            return []
        return [
            (kind, name, int(first))
            for kind, first_G in zip(self.watch.kinds, self.watch_state.first_KG, strict=True)
            for name, first in zip(self.settings.groups, first_G, strict=True)
            if first > 0
        ]

    def coverage(self) -> list[Covering]:
        """What came of the intervals, group by group, target by target."""
        if self.intervals is None or self.intervals_state is None:
            return []
        rule, state = self.intervals.rule, self.intervals_state
        rounds_G = state.thresholds.awake_G
        held_MG = 1.0 - rule.miss_M[:, None] - rule.error(state.thresholds)
        bound_MG = np.minimum(rule.bound(state.thresholds), 1.0)
        if self.settings.shards > 1:  # the proof needs the groups of all shards
            bound_MG = np.full(bound_MG.shape, np.nan)
        width_MG = state.width_MG / np.maximum(rounds_G, 1e-300)
        return [
            Covering(name, target, float(rounds_G[g]), float(held_MG[m, g]), float(bound_MG[m, g]), float(width_MG[m, g]))
            for m, target in enumerate(rule.targets)
            for g, name in enumerate(self.settings.groups)
            if rounds_G[g] > 0
        ]

    def levels(self) -> list[Levels]:
        """What came of calibrated probabilities, group by group."""
        if self.calibration is None or self.calibration_state is None:
            return []
        state = self.calibration_state
        bound_GB = self.calibration.bound(state)
        if self.settings.shards > 1:  # the proof needs the groups of all shards
            bound_GB = np.full(bound_GB.shape, np.nan)
        parts = (state.count_GB, self.calibration.error(state), bound_GB)
        rows = zip(self.settings.groups, *(part.tolist() for part in parts), strict=True)
        return [Levels(name, *map(tuple, numbers)) for name, *numbers in rows if any(numbers[0])]

    # -- saving ----------------------------------------------------------------------------------------------------------

    def capture(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The state for a checkpoint; what happens later does not change the arrays."""
        arrays, facts = self.tickets.capture()
        arrays |= pack_state(self.state)
        if self.intervals is not None and self.intervals_state is not None:
            arrays |= self.intervals.pack(self.intervals_state)
        if self.calibration_state is not None:
            arrays |= pack_part(self.calibration_state, "calibration")
        if self.watch is not None and self.watch_state is not None:
            arrays |= self.watch.pack(self.watch_state)
        counts = {"learned": self.learned, "repeated": self.repeated, "unknown": self.unknown, "refused": self.refused}
        limits = {"max_rows": self._max_rows, "bounds": dataclasses.asdict(self._bounds)}
        if self.watch is not None:
            limits["edges"] = self.watch.edges
        return arrays, {"meaning": self.meaning, **limits, "tickets": facts, **counts}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Continue from a checkpoint, under the limits of then: what came after it is applied again as it was. Then `limit`.

        Groups that had joined join again.

        Raises:
            StateError: it means something else, with the names of the changes; or it does not fit the algorithm.
        """
        try:
            if joined := [group for group in facts["meaning"]["groups"] if group.get("added")]:
                self.grow([{key: group[key] for key in ("name", "rule", "prior")} for group in joined])
            now = json.loads(json.dumps(self.meaning))
            before = {**{key: now[key] for key in _SAID_SINCE if key not in facts["meaning"]}, **facts["meaning"]}
            found = changes(before, now)
        except (KeyError, TypeError, AttributeError, RemoteProtocolError) as error:
            raise StateError(f"the checkpoint does not say what it means: {error!r}") from error
        if found:
            more = f"; and {len(found) - _SHOWN} more changes" if len(found) > _SHOWN else ""
            raise StateError(
                f"what the checkpoint has learned means something else now: {'; '.join(found[:_SHOWN])}{more}. "
                "Serve the data and recipe of before, or give --out another folder"
            )
        state = unpack_state(self.state, arrays)
        try:
            checked(state.learner)
            checked(state.mixer)
        except NotFiniteError as error:
            raise StateError(f"the checkpoint holds a state that is not finite: {error}; give --out another folder") from error
        if self.intervals is not None and self.intervals_state is not None:
            self.intervals_state = self.intervals.unpack(self.intervals_state, arrays)
        try:
            if self.calibration_state is not None:
                self.calibration_state = unpack_part(self.calibration_state, arrays, "calibration")
            if self.watch is not None and self.watch_state is not None:
                edges = tuple(tuple(map(float, edge_C)) for edge_C in facts["edges"])
                self.watch = dataclasses.replace(self.watch, edges=edges)
                self.watch_state = self.watch.unpack(self.watch.init(len(self.settings.groups)), arrays)
            self.tickets.restore(arrays, facts["tickets"])
            self.learned, self.repeated, self.unknown = (int(facts[key]) for key in ("learned", "repeated", "unknown"))
            self._max_rows = int(facts["max_rows"])
            self.refused = int(facts["refused"])
            self._bounds = FeatureBounds(limit=tuple(facts["bounds"]["limit"]), outside=facts["bounds"]["outside"])
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"the checkpoint does not fit: {error}") from error
        self.state = state
        self.features = list(facts["meaning"]["features"])  # the same, with the constants of then

    def limit(self) -> None:
        """Go over to the settings' limits, after what was recorded under those of before."""
        self._max_rows, self._bounds = self.settings.max_rows, self.settings.bounds
        self.tickets.limit_to(self.settings.max_pending)
