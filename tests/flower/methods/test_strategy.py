from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import Error, Message, RecordDict

from saddlebag.algorithms import Record, digest, simulate
from saddlebag.errors import PeerLost
from saddlebag.flower import InProcessGrid, MethodStrategy, method_app, run_session
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

MASHA1 = {
    "name": "masha1",
    "step_size": 0.2,
    "probability": 0.25,
    "up": {"name": "rand_k", "fraction": 0.25},
    "down": {"name": "natural"},
}
MASHA2 = {
    "name": "masha2",
    "step_size": 0.1,
    "probability": 0.25,
    "up": {"name": "top_k", "fraction": 0.25},
    "down": {"name": "top_k", "fraction": 0.25},
}
PARTIAL = MASHA1 | {"participants": 2}
METHODS: dict[str, dict[str, Any]] = {
    "pp_masha1": PARTIAL,
    "masha1": MASHA1,
    "masha2": MASHA2,
    "extragradient": {"name": "extragradient", "step_size": 0.3},
}


def recipe_for(method: dict[str, Any], mean: str = "mean", **stop: Any) -> Recipe:
    problem = {"name": "bilinear", "n": 6, "regularisation": 0.2}
    tables = {"problem": problem, "method": method, "stop": stop or {"max_rounds": 60, "every": 10}, "server": {"mean": mean}}
    return recipe_from_dict({"workers": 4, "seed": 3, **tables})


def reference(recipe: Recipe) -> Any:
    problem = build_problem(recipe)
    method = build_method(resolve(recipe, problem), problem)
    return simulate(problem, method, seed=recipe.seed, stop=recipe.stop, wire=LoopbackWire(), rule=recipe.server.rule)


@pytest.mark.parametrize("name", METHODS)
def test_the_trajectory_and_the_bytes_are_those_of_the_in_process_driver(name: str) -> None:
    recipe = recipe_for(METHODS[name])
    strategy = MethodStrategy(recipe)
    result = strategy.start(grid=InProcessGrid(method_app(), 4))
    expected = reference(recipe)
    assert digest(strategy.core.replica) == digest(expected.replica)
    assert np.array_equal(result.arrays["z"].numpy(), expected.replica.z_D)
    assert strategy.core.ledger.up.payload == expected.up_bytes
    assert strategy.core.down_bytes == expected.down_bytes
    assert list(result.train_metrics_clientapp) == [record.round for record in expected.history]


@pytest.mark.parametrize("mean", ["coordinate_median", "geometric_median"])
def test_a_rule_in_place_of_the_mean_has_the_bits_of_the_in_process_driver(mean: str) -> None:
    """By messages and in a session."""
    eight = {"name": "nearest_int8"}
    method = {"name": "compressed_sgd", "step_size": 0.1, "up": eight, "down": eight}
    recipe = recipe_for(method, mean)
    strategy = MethodStrategy(recipe)
    strategy.start(grid=InProcessGrid(method_app(), 4))
    expected = reference(recipe)
    assert digest(strategy.core.replica) == digest(expected.replica) != digest(reference(recipe_for(method)).replica)
    result = run_session(InProcessGrid(method_app(), 4, together=True), recipe, timeout=60)
    assert np.array_equal(result.arrays["z"].numpy(), expected.replica.z_D)


@pytest.mark.parametrize("name", METHODS)
def test_lost_replies_leave_the_trajectory_as_it_is(name: str) -> None:
    recipe = recipe_for(METHODS[name])
    strategy = MethodStrategy(recipe)
    grid = InProcessGrid(method_app(), 4, lost=lambda number, partition: number > 8 and (number * 7 + partition) % 5 == 0)
    strategy.start(grid=grid)
    assert digest(strategy.core.replica) == digest(reference(recipe).replica)


@pytest.mark.parametrize("name", METHODS)
def test_a_client_that_lost_its_state_is_rebuilt_from_the_log_on_the_same_trajectory(name: str) -> None:
    recipe = recipe_for(METHODS[name])
    strategy, grid = MethodStrategy(recipe), InProcessGrid(method_app(), 4)
    strategy.start(grid=grid, num_rounds=30)
    grid.contexts[3].state = RecordDict()
    strategy.start(grid=grid)
    assert strategy.core.epoch == 0
    assert digest(strategy.core.replica) == digest(reference(recipe).replica)


def test_a_killed_client_is_awaited_though_flower_does_not_say_whose_reply_is_lost() -> None:
    class Killed(InProcessGrid):
        """Client 3 is gone for a while; the error replies in its place come from the SuperLink, node 1."""

        failures = 25

        def _reply(self, message: Any) -> Any:
            if message.metadata.dst_node_id != 3 or strategy.core.round < 10 or not self.failures:
                return super()._reply(message)
            self.failures -= 1
            self.contexts[3].state = RecordDict()
            reply = Message(Error(code=5, reason="Node Unavailable"), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 1
            return reply

    recipe, notes = recipe_for(MASHA1), list[str]()
    strategy, grid = MethodStrategy(recipe, note=notes.append), Killed(method_app(), 4)
    strategy.start(grid=grid)
    assert not grid.failures
    assert notes == ["worker unknown: Node Unavailable"]
    assert digest(strategy.core.replica) == digest(reference(recipe).replica)


def test_beyond_the_log_a_lost_state_begins_a_new_epoch_and_the_run_converges() -> None:
    strategy = MethodStrategy(recipe_for(MASHA1, merit=1e-8, max_rounds=20000), log_bytes=1000)
    grid = InProcessGrid(method_app(), 4)
    strategy.start(grid=grid, num_rounds=30)
    grid.contexts[3].state = RecordDict()
    strategy.start(grid=grid)
    assert strategy.core.epoch == 1
    assert strategy.core.finished == "merit"


def test_a_diverging_run_ends_as_such() -> None:
    recipe, records = recipe_for(MASHA1 | {"step_size": 1e9}, max_rounds=4000, every=4000), list[Record]()
    strategy = MethodStrategy(recipe, observe=records.append)
    strategy.start(grid=InProcessGrid(method_app(), 4))
    assert strategy.core.finished == "diverged"
    assert [record.round for record in records] == [strategy.core.round]


@pytest.mark.parametrize("name", METHODS)
def test_a_session_is_on_the_same_trajectory(name: str) -> None:
    recipe = recipe_for(METHODS[name])
    result = run_session(InProcessGrid(method_app(), 4, together=True), recipe, timeout=60)
    expected = reference(recipe)
    assert np.array_equal(result.arrays["z"].numpy(), expected.replica.z_D)
    last = result.train_metrics_clientapp[expected.history[-1].round]
    assert (last["up-bytes"], last["down-bytes"]) == (expected.up_bytes, expected.down_bytes)


@pytest.mark.parametrize("clients", [2, 4])
def test_a_session_with_too_few_clients_at_the_same_time_says_so(clients: int) -> None:
    class OneByOne(InProcessGrid):
        """Never runs more than two clients, as a simulation on too few cores."""

        def push_messages(self, messages: Any) -> Any:
            names = [f"waiting {number}" for number, _ in enumerate(messages)]
            threading.Thread(target=super().push_messages, args=(messages[:2],), daemon=True).start()
            return names

    with pytest.raises(PeerLost, match=r"4 workers are needed at the same time, 2 take part"):
        run_session(OneByOne(method_app(), clients, together=True), recipe_for(MASHA1), timeout=60, gather=3)


def test_clients_beyond_the_recipe_are_not_needed_in_a_session() -> None:
    recipe = recipe_for(MASHA1)
    result = run_session(InProcessGrid(method_app(), 6, together=True), recipe, timeout=60)
    assert np.array_equal(result.arrays["z"].numpy(), reference(recipe).replica.z_D)


def test_a_client_that_flower_loses_is_invited_again_and_the_session_goes_on() -> None:
    class Losing(InProcessGrid):
        """Loses its third client before it comes to run, once."""

        lost = 0

        def _reply(self, message: Any) -> Any:
            if message.metadata.dst_node_id == 4 and not self.lost:
                self.lost += 1
                return Message(Error(code=5, reason="Node Unavailable"), reply_to=message)
            return super()._reply(message)

        def push_messages(self, messages: Any) -> Any:
            for message in messages:
                message.metadata.__dict__["_message_id"] = f"{message.metadata.dst_node_id}, try {self.lost}"
                threading.Thread(target=self._later, args=(message,), daemon=True).start()
            return [message.metadata.message_id for message in messages]

        def _later(self, message: Any) -> None:
            self._replies[message.metadata.message_id] = self._reply(message)

    recipe, notes, grid = recipe_for(MASHA1), list[str](), Losing(method_app(), 4)
    result = run_session(grid, recipe, timeout=60, gather=10, note=notes.append)
    assert any("client 4 is lost to Flower" in note for note in notes)
    assert np.array_equal(result.arrays["z"].numpy(), reference(recipe).replica.z_D)
