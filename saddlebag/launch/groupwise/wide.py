"""A study of so many groups that no table of rounds and groups is made: what it costs is for those that are awake.

The same as `study_orders`, up to rounding, one order after the other; regret curves are kept of the largest groups only.

Shapes: N = rounds, S = orders, G = groups, E = experts, M = memberships in all, K = those of one group, P = points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import Members, mix_members, replay_members
from saddlebag.algorithms.groupwise.capabilities import SeparateExperts
from saddlebag.algorithms.groupwise.ledger import declared_range
from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.per_group import POINTS, group_values

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise import Groupwise
    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.launch.groupwise.data.stream import RoundStream
    from saddlebag.launch.groupwise.recipe import GroupwiseRecipe

DRAWN = 200
"""Groups whose curves are kept."""
_TABLE = 1 << 23  # numbers of a table of rounds and groups, 64 MiB; a study needs a few such tables for each order
_LARGEST = 1 << 28
_DENSE = ("intervals", "calibration", "alarms")


def is_wide(recipe: GroupwiseRecipe, algorithm: Groupwise, stream: RoundStream) -> bool:
    """Whether a study goes without tables of rounds and groups: where they would be large, and nothing needs them.

    Raises:
        ConfigError: something needs a table that is too large.
    """
    size = len(stream.y_N) * len(stream.groups)
    needed = [f"[{name}]" for name in _DENSE if getattr(recipe, name) is not None]
    if not isinstance(algorithm.mixer, SeparateExperts):
        needed.append(f"the mixer {type(algorithm.mixer).__name__}")
    if needed and size > _LARGEST:
        raise ConfigError(
            f"{needed[0]} needs a number for each of {len(stream.y_N):,} rounds and {len(stream.groups):,} groups, at most "
            f"{_LARGEST:,}; leave it out, or take fewer groups"
        )
    return size > _TABLE and not needed


def wide_order(recipe: GroupwiseRecipe, algorithm: Groupwise, stream: RoundStream, prior_E: Array) -> dict[str, Array]:
    """What a `Study` says of one order, each array with an axis of length 1 for it; `drawn` are the groups with curves."""
    members, y_N, G = stream.members, stream.y_N, len(stream.groups)
    z_M = replay_members(algorithm.learner, stream.x_ND, y_N, members)
    if algorithm.interval is not None:
        z_M = np.clip(z_M, *algorithm.interval)
    loss_M = np.asarray(algorithm.loss.value(z_M, y_N[members.round_M]))
    single_N = loss_M[members.start_N[1:] - 1]  # the always-on group is the last of each round
    mixed = mix_members(
        algorithm.mixer, prior_E, *_experts(algorithm, members, z_M), y_N, algorithm.loss, charge=algorithm.charge
    )
    ours_N = (mixed.played_NS if algorithm.charge == "played" else mixed.expected_NS)[:, 0]
    own_G = members.sums(members.weight_M * loss_M)
    drawn = drawn_groups(members)
    rows: list[dict[str, Any]] = []
    for group, place_K, round_K in members.by_group():
        rounds = (stream.x_ND[round_K], y_N[round_K], members.weight_M[place_K])
        losses = (single_N[round_K], ours_N[round_K], float(own_G[group]))
        rows.append(group_values(recipe, algorithm, rounds, z_M[place_K], losses, POINTS if drawn[group] else 1))
    curves = {name for name in rows[0] if name.endswith("_SGP")}
    values = {name: np.array([row[name] for row in rows])[None] for name in rows[0].keys() - curves}
    values |= {name: np.array([row[name] for row, kept in zip(rows, drawn, strict=True) if kept])[None] for name in curves}
    declared = declared_range(algorithm.mixer)
    return values | {
        "absolute_SG": mixed.absolute_SE[:, :G],
        "meta_bound_SG": algorithm.mixer.bound(mixed.state)[:, :G],
        "played_S": mixed.played_NS.sum(axis=0),
        "expected_S": mixed.expected_NS.sum(axis=0),
        "fell_back_S": mixed.fell_back_S,
        "largest": mixed.largest_S,
        "slack": algorithm.mixer.slack(mixed.state).max(axis=-1),
        "declared": np.full(1, np.inf if declared is None else declared),
    }


def drawn_groups(members: Members) -> Any:
    """Which groups' curves are kept: the always-on group's, and those of the largest; booleans (G,)."""
    size_G = members.sums(members.weight_M)
    drawn_G = np.zeros(len(size_G), np.bool_)
    drawn_G[np.argsort(-size_G, kind="stable")[:DRAWN]] = True
    drawn_G[-1] = True
    return drawn_G


def _experts(algorithm: Groupwise, members: Members, z_M: Array) -> tuple[Members, Array]:
    """The groups, and their shadows if there are any."""
    if not algorithm.shadows:
        return members, z_M
    G = members.num_groups
    others = members.group_M < G - 1
    round_M, group_M = members.round_M[others], members.group_M[others] + G
    order_M = np.argsort(np.concatenate((members.round_M, round_M)), kind="stable")
    single_N = z_M[members.start_N[1:] - 1]
    expert_M = np.concatenate((members.group_M, group_M))[order_M]
    weight_M = np.concatenate((members.weight_M, members.weight_M[others]))[order_M]
    start_N = np.concatenate(([0], np.cumsum(2 * np.diff(members.start_N) - 1)))
    return Members(2 * G - 1, start_N, expert_M, weight_M), np.concatenate((z_M, single_N[round_M]))[order_M]
