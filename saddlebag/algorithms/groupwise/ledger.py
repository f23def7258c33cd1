"""The accounts of groupwise regret: what each expert lost on its rounds, and what we lost on them."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise.capabilities import DeclaresRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saddlebag.algorithms.groupwise.base import AnyMixer, Array, Index

__all__ = ["Alarm", "Ledger", "Outcome"]

_ROUNDING = 1e-9  # relative; sums of 1e6 losses carry about 1e-10


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """A round after its label, or the sums of a block of rounds.

    Attributes:
        awake_E: I; summed over a block.
        loss_E: I l, each expert's own loss.
        charged_E: I c, with c what experts are compared with in the accounts: loss of the mixture, or expected loss.
        regret_E: I (reference - l), what the mixer absorbs.
        played: loss of the prediction that was given out.
        expected: p . l, the expected loss of sampling an expert.
        rounds: rounds in it.
        largest: largest |I (c - l)| of a single round.
        fell_back: rounds in which all the awake had weight 0.
        orphans: rounds in which nobody was awake.

    Example:
        >>> awake_E, loss_E = np.ones(2), np.array([0.25, 0.0])
        >>> outcome = Outcome(awake_E, loss_E, awake_E * 0.1, 0.1 - loss_E, 0.1, 0.1, 1, 0.25, 0, 0)
        >>> total([outcome, outcome]).rounds
        2
    """

    awake_E: Array
    loss_E: Array
    charged_E: Array
    regret_E: Array
    played: float
    expected: float
    rounds: int
    largest: float
    fell_back: int
    orphans: int


@dataclasses.dataclass(frozen=True, eq=False)
class Ledger:
    """Sums since the start; shape (E,) or scalars.

    Attributes:
        count_E: T_e, rounds awake (confidences add up).
        loss_E: each expert's own loss on its rounds.
        charged_E: our loss on the same rounds.
        absolute_E: C, sum of |charged - own| round by round (block by block where state is frozen).
        played, expected: total losses.
        rounds, fell_back, orphans: counted in rounds.
        largest: largest |r| of a single round.

    Example:
        >>> ledger = open_ledger(2)
        >>> ledger.rounds, ledger.regret_E.tolist()
        (0, [0.0, 0.0])
    """

    count_E: Array
    loss_E: Array
    charged_E: Array
    absolute_E: Array
    played: float = 0.0
    expected: float = 0.0
    rounds: int = 0
    fell_back: int = 0
    orphans: int = 0
    largest: float = 0.0

    @property
    def regret_E(self) -> Array:
        """R: our loss less each expert's own, on the expert's rounds."""
        return self.charged_E - self.loss_E


@dataclasses.dataclass(frozen=True)
class Alarm:
    """Something that the theory rules out, so losses left their range or the accounts are broken.

    Attributes:
        what: "finite", "range", "invariant" or "bound".
        experts: which; empty for all.
        message: one line for people.

    Example:
        >>> Alarm("bound", (0,), "the regret of expert 0 is above its bound").experts
        (0,)
    """

    what: str
    experts: tuple[int, ...]
    message: str


def open_ledger(num_experts: int) -> Ledger:
    """An empty ledger."""
    zero_E = np.zeros(num_experts)
    return Ledger(zero_E, zero_E, zero_E, zero_E)


def record(ledger: Ledger, outcome: Outcome) -> Ledger:
    """The ledger after an outcome."""
    return Ledger(
        count_E=ledger.count_E + outcome.awake_E,
        loss_E=ledger.loss_E + outcome.loss_E,
        charged_E=ledger.charged_E + outcome.charged_E,
        absolute_E=ledger.absolute_E + np.abs(outcome.charged_E - outcome.loss_E),
        played=ledger.played + outcome.played,
        expected=ledger.expected + outcome.expected,
        rounds=ledger.rounds + outcome.rounds,
        fell_back=ledger.fell_back + outcome.fell_back,
        orphans=ledger.orphans + outcome.orphans,
        largest=max(ledger.largest, outcome.largest),
    )


def widen(ledger: Ledger, extra: int) -> Ledger:
    """The ledger with more experts at its end."""
    count_E, loss_E, charged_E, absolute_E = (
        np.append(value_E, np.zeros(extra)) for value_E in (ledger.count_E, ledger.loss_E, ledger.charged_E, ledger.absolute_E)
    )
    return dataclasses.replace(ledger, count_E=count_E, loss_E=loss_E, charged_E=charged_E, absolute_E=absolute_E)


def total(outcomes: Sequence[Outcome]) -> Outcome:
    """The sums of a block."""
    values = {}
    for field in dataclasses.fields(Outcome):
        parts = [getattr(outcome, field.name) for outcome in outcomes]
        values[field.name] = max(parts) if field.name == "largest" else sum(parts)
    return Outcome(**values)


def alarms(ledger: Ledger, mixer: AnyMixer, state: object) -> tuple[Alarm, ...]:
    """What the theory rules out and has happened all the same; empty in a healthy run.

    * "finite": a loss or a bound is NaN or an infinity;
    * "range": a regret of one round exceeded the mixer's declared range;
    * "invariant": the mixer's potential exceeded its budget (Phi <= B / q for AdaNormalHedge);
    * "bound": a regret exceeded its proven bound.

    Example:
        >>> import saddlebag as sb
        >>> mixer = sb.make_mixer("ada_normal_hedge")
        >>> zero_E, nine_E = np.zeros(2), np.full(2, 9.0)  # a round that cost 9, and both experts nothing
        >>> outcome = Outcome(np.ones(2), zero_E, nine_E, nine_E, 9.0, 0.0, 1, 9.0, 0, 0)
        >>> [alarm.what for alarm in alarms(record(open_ledger(2), outcome), mixer, mixer.init(np.full(2, 0.5)))]
        ['range', 'bound']
    """
    return judge(
        declared=declared_range(mixer),
        largest=ledger.largest,
        rounds=ledger.rounds,
        slack=mixer.slack(state),
        charged_E=ledger.charged_E,
        own_E=ledger.loss_E,
        bound_E=mixer.bound(state),
    )


def declared_range(mixer: object) -> float | None:
    """The range of losses that a mixer counts on, if it does."""
    return mixer.loss_range if isinstance(mixer, DeclaresRange) else None


def judge(
    *, declared: float | None, largest: float, rounds: float, slack: Array, charged_E: Array, own_E: Array, bound_E: Array
) -> tuple[Alarm, ...]:
    """The alarms of `alarms`, from numbers: what a running state and a finished study share.

    Every comparison asks whether a number *keeps* its limit: NaN keeps none.

    Args:
        declared: the mixer's range, if it has one.
        largest: |regret| of a single round.
        rounds: how many there were.
        slack: logarithms of the mixer's invariant.
        charged_E: our loss on each expert's rounds.
        own_E: the expert's own.
        bound_E: on their difference.
    """
    found = []
    excess_E = charged_E - own_E - bound_E
    broken_E = ~(np.isfinite(charged_E) & np.isfinite(own_E) & np.isfinite(bound_E))
    if broken_E.any() or not math.isfinite(largest):
        found.append(Alarm("finite", _ints(np.flatnonzero(broken_E)), "losses or bounds are not finite"))
    if declared is not None and not largest <= declared * (1.0 + _ROUNDING):
        message = f"a round's regret of {largest:.6g} exceeds the declared loss range {declared:.6g}"
        found.append(Alarm("range", (), message))
    broken = np.flatnonzero(~(slack <= _ROUNDING * (1.0 + rounds**0.5)))
    if len(broken):
        found.append(Alarm("invariant", _ints(broken), f"the invariant is broken by e^{slack.max():.6g}"))
    over = np.flatnonzero(~(excess_E <= _ROUNDING * (1.0 + np.abs(charged_E) + bound_E)))
    if len(over):
        found.append(Alarm("bound", _ints(over), f"regret exceeds its bound by {excess_E[over].max():.6g}"))
    return tuple(found)


def _ints(found: Index) -> tuple[int, ...]:
    return tuple(int(e) for e in found)
