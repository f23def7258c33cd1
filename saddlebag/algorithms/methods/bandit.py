"""A bandit over compressors: which pair of them makes the most progress for its bytes is found out during the run.

It costs no traffic. The arms are pairs (up, down) of compressors for one inner method, all with the same states, so that an arm
may follow any other. One arm is played for `every` iterations. Every replica knows its reward, from z and the downlinks:

    progress / bits,    progress = log2 r before - log2 r now

where r is the mean of |z+ - z|^2 / gamma^2 over the later half of a play, and |z+ - z| / gamma stands for the residual |F|,
which methods that converge bring down geometrically. A coarse arm adds noise to r, which is no lost progress: an arm's first
play after another's only shows where it begins, and the next one is rewarded. Bits are those of one worker in both directions:
of a downlink of levels or chosen coordinates its entropy, of the uplink what its compressor declares, less by the same factor
where both are of one kind.

    thompson         the arm of the largest mean + error x a normal number, the error being (deviation of all plays' progress
                     about the means of their arms) / (sqrt(n) x bits of a play): dear arms are soon known
    epsilon_greedy   that of the largest mean; with probability epsilon any
    elimination      arms in turn; those whose mean is surely below another's (two errors of the difference) drop out

Arms are tried by what they declare to cost, the cheapest first. One is worth a trial if it would lead with `_CAP` times the
progress that the best of those tried makes in a play: a finer pair saves iterations, but no more than uncompressed messages
would. A trial is two rewarded plays, or one without progress. The first `_WARM` plays are not rewarded. Means
forget 5 % with every play of theirs, so that the best arm may change; where no arm makes progress all are tried.
Nothing is proven; what is measured is in docs/methods.md. All draws are common, so that machines choose alike.

Sources: Thompson 1933; Auer, Cesa-Bianchi, Fischer 2002; Even-Dar, Mannor, Mansour 2006; bandits over moves as in Balans (Cai,
Kadioglu, Dilkina 2024). The reward is ours.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from saddlebag.algorithms.agreed.auto_step import Steerable
from saddlebag.algorithms.base import check_step, square
from saddlebag.algorithms.methods.arms import FORGET, Play, Rule, chosen
from saddlebag.algorithms.registry import METHODS, make_method, takes_compressors
from saddlebag.algorithms.state import pack
from saddlebag.algorithms.wrapped import Wrapped
from saddlebag.compression import Levels, Sparse, make_compressor
from saddlebag.compression.values import sparse_bits
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.algorithms.agreed.auto_step import Strain
    from saddlebag.algorithms.base import AnyMethod, Message, Problem
    from saddlebag.compression import Compressor, Draws, Payload, Vector

__all__ = ["Play", "Rule", "bandit"]

_WARM = 4  # plays before the first that is rewarded: an automatic step is still found in them, which no arm is to blame for
_MOST = 20.0  # |log2| of a play's progress that counts: what lies beyond is a run that diverges
_GRID = 2.0**-20  # of log2, to which machines' libraries agree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bandit(Wrapped):
    """An inner method whose compressors are chosen by a bandit; itself a method.

    Attributes:
        method: the inner one, a dataclass with `up`, `down` and `step_size`.
        arms: (up, down) of each arm, at least one.
        step_size: of all arms.
        rule: thompson, epsilon_greedy or elimination.
        every: iterations of a play, from 2.
        epsilon: of epsilon_greedy.
    """

    arms: tuple[tuple[Compressor, Compressor], ...]
    step_size: float
    rule: Rule = "thompson"
    every: int = 10
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_step(self.step_size)
        if not self.arms:
            raise ConfigError("bandit.arms must name at least one pair of compressors, got none")
        if self.rule not in get_args(Rule):
            raise ConfigError(f"bandit.rule must be one of {', '.join(get_args(Rule))}, got {self.rule!r}")
        if not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 2:
            raise ConfigError(f"bandit.every must be a whole number of at least 2, got {self.every!r}")
        if not 0 <= self.epsilon <= 1:
            raise ConfigError(f"bandit.epsilon must lie in [0, 1], got {self.epsilon}")

    def _at(self, replica: Play) -> Any:
        up, down = self.arms[replica.arm]
        method: Any = self.method  # a dataclass with these fields, for which Python has no type
        return dataclasses.replace(method, up=up, down=down, step_size=self.step_size)

    def _inner(self, replica: Play) -> Any:
        return replica.state

    def init_replica(self, z_D: Vector) -> Play:
        none_A = np.zeros(len(self.arms))
        state = self.method.init_replica(z_D)
        return Play(
            state,
            int(self._declared(len(z_D)).argmin()),
            0,
            0.0,
            0.0,
            0.0,
            False,
            none_A,
            none_A,
            none_A,
            none_A,
            np.ones(len(self.arms)),
        )

    def replay(self, replica: Play, down: Message, draws: Draws) -> Play:
        before = replica.state
        after = self._at(replica).replay(before, down, draws)
        bits = replica.bits + self._bits(replica, down, draws)
        if int(after.iteration) == replica.iteration:  # a round within an iteration
            return dataclasses.replace(replica, state=after, bits=bits)
        length, residual = replica.length + 1, replica.residual
        if 2 * length > self.every:
            with np.errstate(over="ignore", invalid="ignore"):
                residual += square((after.z_D - before.z_D) / self.step_size)
        played = dataclasses.replace(replica, state=after, length=length, residual=residual, bits=bits)
        return played if length < self.every else self._next(played, draws)

    def _bits(self, replica: Play, message: Message, draws: Draws) -> float:
        """Of a round, of one worker in both directions."""
        up, down = self.arms[replica.arm]
        declared = sum(down.bits(part.dimension) for part in message.parts)
        seen = sum(_entropy(part, down.bits(part.dimension)) for part in message.parts)
        sent = sum(up.bits(d) for d in self.method.uplink_sizes(replica.state, draws))
        factor = seen / declared if type(up) is type(down) and declared > 0 else 1.0
        return float(seen + factor * sent)

    def _next(self, played: Play, draws: Draws) -> Play:
        """After a play: its reward, and the arm of the coming one."""
        mean = played.residual / (self.every - self.every // 2)
        known = 0.0 < mean < math.inf
        now = round(math.log2(mean) / _GRID) * _GRID if known else _MOST if mean != 0.0 else played.before
        ended = dataclasses.replace(played, length=0, residual=0.0, bits=0.0, before=float(now), started=True)
        if not played.started or played.iteration <= _WARM * self.every:
            return ended
        progress = max(-_MOST, min(_MOST, played.before - now))
        told = {name: getattr(played, name).copy() for name in ("count_A", "sum_A", "square_A", "bits_A")}
        for sums_A, value in zip(told.values(), (1.0, progress, progress * progress, max(played.bits, 1.0)), strict=True):
            sums_A[played.arm] = FORGET * sums_A[played.arm] + value
        chosen = self._chosen(dataclasses.replace(ended, **told), draws)
        return dataclasses.replace(chosen, started=chosen.arm == played.arm)

    def _declared(self, d: int) -> Vector:
        """Bits of a vector up and one down, by arm."""
        return np.array([up.bits(d) + down.bits(d) for up, down in self.arms])

    def _chosen(self, learnt: Play, draws: Draws) -> Play:
        """With the arm of the coming play."""
        return chosen(learnt, self._declared(len(learnt.z_D)), self.rule, self.epsilon, draws)


class SteerableBandit(Bandit):
    """The same for a method whose step can be steered: what a round showed is the inner method's to say."""

    def strain(self, before: Play, down: Message, after: Play) -> Strain | None:
        return cast("Strain | None", self._at(before).strain(before.state, down, after.state))

    def stay(self, before: Play, after: Play) -> Play:
        return dataclasses.replace(after, state=self._at(before).stay(before.state, after.state))


def _entropy(payload: Payload, declared: float) -> float:
    """Bits of a payload of levels or of chosen coordinates; of others what the compressor declares."""
    if isinstance(payload, Levels):
        share_L = np.unique(payload.level_D, return_counts=True)[1] / max(len(payload.level_D), 1)
        return 32.0 * len(payload.scale_B) - len(payload.level_D) * float((share_L * np.log2(share_L)).sum())
    if isinstance(payload, Sparse):
        kept = len(payload.index_K)
        return sparse_bits(payload.dimension, kept, 0.0) + _entropy(payload.value, 32.0 * kept)
    return declared


_ARMS = tuple(
    {"up": {"name": "grid", "step": up, "fit": fit}, "down": {"name": "grid", "step": 0.5, "fit": fit}}
    for up, fit in ((1.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.1, 0.0))
)


def bandit(
    problem: Problem,
    *,
    of: str = "innovations",
    arms: Sequence[Mapping[str, Any]] = _ARMS,
    rule: Rule = "thompson",
    every: int = 10,
    epsilon: float = 0.1,
    step_size: float | None = None,
) -> Bandit:
    """A method whose compressors are chosen by a bandit.

    Args:
        problem: what is solved.
        of: the inner method, one that takes compressors.
        arms: tables with up and down, each a table that names a compressor; by default four pairs of grids.
        rule: how an arm is chosen.
        every: iterations of a play.
        epsilon: of epsilon_greedy.
        step_size: of all arms; without one the smallest of those that the theory proves for an arm.

    Raises:
        ConfigError: the inner method is unknown or takes no compressors, an arm does not fit it, or keeps other states.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("bandit", game, step_size=0.2, rule="epsilon_greedy")
        >>> sb.simulate(game, method, stop=sb.Stop(max_rounds=100)).merits["relative_error"] < 1.0
        True
    """
    inner, pairs = [], []
    for number, table in enumerate(arms):
        pair = _pair(table, f"bandit.arms.{number}")
        inner.append(_inner(of, problem, pair, step_size))
        pairs.append(pair)
    if not inner:
        raise ConfigError("bandit.arms must name at least one pair of compressors, got none")
    kept = [{name: array.shape for name, array in pack(method.init_replica(problem.start())).items()} for method in inner]
    for number, shapes in enumerate(kept):
        if shapes != kept[0]:
            raise ConfigError(f"bandit.arms.{number} keeps other states than the first arm, so it cannot follow it")
    step = min(float(method.step_size) for method in inner)
    kind = SteerableBandit if isinstance(inner[0], Steerable) else Bandit
    first = dataclasses.replace(inner[0], step_size=step)  # what a recipe's resolved numbers are read from
    return kind(method=first, arms=tuple(pairs), step_size=step, rule=rule, every=every, epsilon=epsilon)


bandit.sends = "sends what the arm in play does"  # type: ignore[attr-defined]  # what a list of methods says of it


def _inner(of: str, problem: Problem, pair: tuple[Compressor, Compressor], step_size: float | None) -> Any:
    if of not in METHODS or of == "bandit" or not takes_compressors(of):
        known = ", ".join(sorted(name for name in METHODS if name != "bandit" and takes_compressors(name)))
        raise ConfigError(f"bandit.of must be a method with compressors, got {of!r}; known: {known}")
    params = {} if step_size is None else {"step_size": step_size}
    method: AnyMethod = make_method(of, problem, up=pair[0], down=pair[1], **params)
    names = {field.name for field in dataclasses.fields(cast("Any", method))}
    if not {"up", "down", "step_size"} <= names:
        raise ConfigError(f"bandit.of: {of!r} keeps its compressors elsewhere than in up and down; take another method")
    return method


def _pair(table: object, path: str) -> tuple[Compressor, Compressor]:
    if not isinstance(table, dict) or set(table) != {"up", "down"}:
        raise ConfigError(f"{path} must be a table with up and down, got {table!r}")
    for side in ("up", "down"):
        if not isinstance(table[side], dict) or not isinstance(table[side].get("name"), str):
            raise ConfigError(f"{path}.{side} must be a table with the name of a compressor, got {table[side]!r}")
    return make_compressor(**table["up"]), make_compressor(**table["down"])
