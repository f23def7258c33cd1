"""A bandit over compressors: what it is paid for, which arm it finds, and that all machines choose alike."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, check_method, digest, make_method, simulate
from saddlebag.algorithms.methods.arms import untried
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.algorithms.state import pack, unpack
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.launch.drivers.simulated import run_simulated
from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {"up": {"name": "grid"}, "down": {"name": "grid", "step": 0.5}}
DEAR = {"up": {"name": "identity"}, "down": {"name": "identity"}}
RULES = ("thompson", "epsilon_greedy", "elimination")


def game() -> BilinearGame:
    return BilinearGame(n=20, num_workers=3, regularisation=0.1)


def arms_of(rule: str, **params: Any) -> list[int]:
    """The arm in play after each round."""
    seen: list[int] = []
    method = make_method("bandit", game(), arms=[DEAR, GOOD], rule=rule, every=5, **params)
    stop = Stop(max_rounds=300)
    simulate(
        game(), method, seed=0, stop=stop, wire=LoopbackWire(), watch=lambda _, replica, __: seen.append(inside(replica).arm)
    )
    return seen


def inside(replica: Any) -> Any:
    return replica.state if hasattr(replica, "pace") else replica


@pytest.mark.parametrize("rule", RULES)
def test_the_arm_that_is_paid_more_is_played_more(rule: str) -> None:
    """Uncompressed messages make as much progress for many times the bytes."""
    later = arms_of(rule, step_size="auto")[150:]
    assert sum(later) > 0.8 * len(later)


def learnt(method: Any, mean: list[float], bits: float = 1.0) -> Any:
    """Four plays of each arm, whose progress deviates by 0.1 and a little more from these means."""
    count_A, mean_A = np.full(len(mean), 4.0), np.array(mean)
    sums = {"sum_A": count_A * mean_A, "square_A": count_A * (mean_A**2 + 0.01), "bits_A": bits * count_A}
    return dataclasses.replace(method.init_replica(np.zeros(2)), count_A=count_A, **sums)


def test_rewards_decide_and_a_worse_arm_drops_out() -> None:
    method: Any = make_method("bandit", game(), arms=[GOOD, DEAR, GOOD], rule="elimination", step_size=0.1)
    told = learnt(method, [1.0, 2.0, 1.99])
    after = method._chosen(told, Draws(0, 0))
    assert (after.open_A.tolist(), after.arm) == ([0.0, 1.0, 1.0], 1)
    greedy = dataclasses.replace(method, rule="epsilon_greedy", epsilon=0.0)
    assert greedy._chosen(told, Draws(0, 0)).arm == 1
    thompson = dataclasses.replace(method, rule="thompson")
    chosen = [thompson._chosen(told, Draws(0, round_)).arm for round_ in range(200)]
    assert 0 not in chosen
    assert 60 < chosen.count(1) < 160  # the means lie a fifth of an error apart


def test_a_dear_arm_is_soon_known() -> None:
    """The same noise of progress, divided by a hundred times the bits, cannot hide that it is worse."""
    method: Any = make_method("bandit", game(), arms=[GOOD, DEAR], step_size=0.1)
    told = learnt(method, [0.2, 0.4])
    told = dataclasses.replace(told, bits_A=np.array([4.0, 400.0]))
    assert {method._chosen(told, Draws(0, round_)).arm for round_ in range(100)} == {0}


def test_a_pair_too_dear_to_win_is_not_tried_and_where_nothing_moves_all_are() -> None:
    """More than three times the bits cannot pay, for finer messages make three times the progress at most."""
    method: Any = make_method("bandit", game(), arms=[DEAR, GOOD], step_size=0.1)
    told = learnt(method, [0.0, 1.0])
    told = dataclasses.replace(told, count_A=np.array([0.0, 4.0]), sum_A=np.array([0.0, 4.0]), square_A=np.array([0.0, 4.0]))
    told = dataclasses.replace(told, bits_A=np.array([0.0, 4.0 * method._declared(2)[1]]))
    assert method._declared(2)[0] > 3.0 * method._declared(2)[1]
    assert method.init_replica(np.zeros(2)).arm == 1, "the cheapest comes first"
    assert untried(told, method._declared(2)) is None
    assert {method._chosen(told, Draws(0, round_)).arm for round_ in range(50)} == {1}
    stalled = dataclasses.replace(told, sum_A=np.array([0.0, -0.1]))
    assert untried(stalled, method._declared(2)) == 0


def test_plays_in_which_a_step_is_still_found_are_not_rewarded() -> None:
    method = make_method("bandit", game(), arms=[GOOD, DEAR], every=5, step_size="auto")
    for rounds, rewarded in ((20, 0.0), (25, 1.0)):
        replica = simulate(game(), method, seed=0, stop=Stop(max_rounds=rounds), wire=LoopbackWire()).replica
        assert inside(replica).count_A.sum() == rewarded


def test_arms_follow_from_what_all_machines_know() -> None:
    """Draws of any worker choose alike."""
    method: Any = make_method("bandit", game(), arms=[GOOD, DEAR, GOOD], step_size=0.1)
    told = learnt(method, [1.0, 1.0, 1.0])
    for round_ in range(20):
        assert len({method._chosen(told, Draws(1, round_, worker)).arm for worker in range(4)}) == 1


@pytest.mark.parametrize("step_size", ["auto", 0.1])
def test_it_is_a_method(step_size: Any) -> None:
    small = BilinearGame(n=3, num_workers=2, regularisation=0.3)
    check_method(make_method("bandit", small, arms=[GOOD, DEAR], step_size=step_size, every=2), small)


def test_inner_methods_of_several_rounds_and_their_theory() -> None:
    arms = [
        {"up": {"name": "natural"}, "down": {"name": "identity"}},
        {"up": {"name": "rand_k", "k": 3}, "down": {"name": "natural"}},
    ]
    method: Any = make_method("bandit", game(), of="masha1", arms=arms)
    proven = [make_method("masha1", game(), up=up, down=down).step_size for up, down in method.arms]  # type: ignore[attr-defined]
    assert method.step_size == method.method.step_size == min(proven)
    end = simulate(game(), method, seed=0, stop=Stop(max_rounds=160), wire=LoopbackWire())
    assert inside(end.replica).count_A.sum() >= 2.0


def test_what_it_knows_is_part_of_checkpoints_and_digests() -> None:
    method = make_method("bandit", game(), arms=[GOOD, DEAR], every=3, step_size=0.1)
    replica = simulate(game(), method, seed=0, stop=Stop(max_rounds=20), wire=LoopbackWire()).replica
    assert digest(unpack(method.init_replica(game().start()), pack(replica))) == digest(replica)
    assert digest(dataclasses.replace(replica, arm=1 - replica.arm)) != digest(replica)


@pytest.mark.e2e
def test_grpc_takes_the_way_of_simulate(tmp_path: Path) -> None:
    chosen = 'method={name="bandit",step_size="auto",every=3}'
    ends = []
    for driver, carry in (("simulate", run_simulated), ("grpc", run_grpc)):
        options = ["workers=2", "stop={max_rounds=60}", "problem.n=10", "baseline=[]", chosen, f"driver={driver}"]
        result = carry(load_recipe("bilinear_innovations", options).jobs()[0], tmp_path / driver)
        ends.append(tuple(result[key] for key in ("rounds", "up_bytes", "down_bytes", "digest")))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"arms": []}, "bandit.arms must name at least one pair of compressors"),
        ({"arms": [{"up": {"name": "grid"}}]}, "bandit.arms.0 must be a table with up and down"),
        ({"arms": [{"up": "grid", "down": "grid"}]}, "bandit.arms.0.up must be a table with the name of a compressor"),
        (
            {"arms": [GOOD, {"up": {"name": "grid", "step": "auto"}, "down": {"name": "grid"}}]},
            "bandit.arms.1 keeps other states",
        ),
        ({"of": "ogda"}, "bandit.of must be a method with compressors, got 'ogda'; known: "),
        ({"rule": "luck"}, "bandit.rule must be one of thompson, epsilon_greedy, elimination, got 'luck'"),
        ({"every": 1}, "bandit.every must be a whole number of at least 2, got 1"),
        ({"epsilon": 2.0}, r"bandit.epsilon must lie in \[0, 1\], got 2.0"),
    ],
)
def test_bad_parameters_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_method("bandit", game(), step_size=0.1, **params)
