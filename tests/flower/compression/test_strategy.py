from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian

from saddlebag.errors import ConfigError
from saddlebag.flower import Compressed, InProcessGrid, compression_mod

D, CLIENTS, ROUNDS = 400, 4, 250
TARGETS = np.random.default_rng(0).standard_normal((CLIENTS, D))


def app_of(*mods: Any) -> ClientApp:
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = message.content["arrays"].to_numpy_ndarrays()
        model_D = np.concatenate([array.ravel() for array in arrays[:2]])
        target_D = TARGETS[int(context.node_config["partition-id"])]
        trained_D = (model_D - 0.05 * (model_D - target_D)).astype(np.float32)
        record = ArrayRecord([trained_D[:300].reshape(10, 30), trained_D[300:], arrays[2] + 1])
        metrics = MetricRecord({"num-examples": 1, "loss": float(((model_D - target_D) ** 2).mean())})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        assert [a.shape for a in message.content["arrays"].values()] == [(10, 30), (100,), (1,)]
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "seen": 1.0})}), reply_to=message)

    return app


def start() -> ArrayRecord:
    return ArrayRecord([np.zeros((10, 30), np.float32), np.zeros(100, np.float32), np.zeros(1, np.int64)])


def fed_avg(**params: Any) -> FedAvg:
    return FedAvg(min_train_nodes=CLIENTS, min_available_nodes=CLIENTS, min_evaluate_nodes=CLIENTS, **params)


def run(strategy: Any, grid: InProcessGrid, rounds: int) -> Any:
    return strategy.start(grid=grid, initial_arrays=start(), num_rounds=rounds)


def distance(result: Any) -> float:
    arrays = result.arrays.to_numpy_ndarrays()
    return float(np.abs(np.concatenate([a.ravel() for a in arrays[:2]]) - TARGETS.mean(axis=0)).max())


TOP = {"name": "top_k", "fraction": 0.05}


def test_without_compressors_the_result_is_that_of_the_inner_strategy() -> None:
    plain = run(fed_avg(), InProcessGrid(app_of(), CLIENTS), 5)
    wrapped = run(Compressed(fed_avg()), InProcessGrid(app_of(compression_mod), CLIENTS), 5)
    for ours, theirs in zip(wrapped.arrays.to_numpy_ndarrays(), plain.arrays.to_numpy_ndarrays(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)  # Flower adds replies in a random order


@pytest.mark.parametrize(
    ("up", "memory", "tolerance"),
    [
        (TOP, "error_feedback", 0.5),  # a ball: clients disagree at the solution, and what they owe does not vanish
        (TOP, "ef21", 2e-3),
        ({"name": "rand_k", "fraction": 0.2}, "diana", 2e-3),
        ({"name": "natural"}, "diana", 2e-3),
    ],
    ids=str,
)
def test_compression_both_ways_converges_to_the_same_model_with_fewer_bytes(
    up: dict[str, Any], memory: Any, tolerance: float
) -> None:
    strategy = Compressed(fed_avg(), up=up, down={"name": "top_k", "fraction": 0.25}, memory=memory)
    result = run(strategy, InProcessGrid(app_of(compression_mod), CLIENTS), ROUNDS)
    assert distance(result) < tolerance
    assert result.arrays.to_numpy_ndarrays()[2] == pytest.approx(
        ROUNDS
    )  # arrays that are no floating-point numbers travel as they are
    last = result.train_metrics_clientapp[ROUNDS]
    assert last["saddlebag-down-bytes"] < last["saddlebag-plain-down-bytes"]
    assert last["saddlebag-up-bytes"] < last["saddlebag-plain-up-bytes"]


@pytest.mark.parametrize("inner", [FedAdam, FedMedian])
def test_other_strategies_run_unmodified_and_keep_the_models_dtype(inner: type) -> None:
    inside = inner(min_train_nodes=CLIENTS, min_available_nodes=CLIENTS)
    strategy = Compressed(inside, up=TOP, down={"name": "top_k", "fraction": 0.5}, memory="ef21")
    grid = InProcessGrid(app_of(compression_mod), CLIENTS)
    result = run(strategy, grid, 3)
    assert result.arrays is not None
    reference = next(iter(grid.contexts.values())).state.array_records["saddlebag.reference"]["known"].numpy()
    assert np.array_equal(reference, reference.astype(np.float32))


def test_a_median_of_what_clients_happen_to_send_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="memory='ef21'"):
        Compressed(FedMedian(), up=TOP)


def test_a_client_that_sat_out_gets_one_step_and_a_restarted_one_the_model() -> None:
    inner = FedAvg(min_train_nodes=1, min_available_nodes=1, fraction_evaluate=0.0)
    strategy = Compressed(inner, up=TOP, down={"name": "top_k", "fraction": 0.01})
    grid = InProcessGrid(app_of(compression_mod), CLIENTS)
    run(strategy, grid, 1)
    node, context = grid.contexts.popitem()
    run(strategy, grid, 3)
    grid.contexts[node] = context

    def message(round_: int) -> Message:
        configured = strategy.configure_train(round_, start(), ConfigRecord(), grid)
        return next(m for m in configured if m.metadata.dst_node_id == node)

    first = message(4)
    assert sorted(first.content["arrays"]) == ["2", "saddlebag.step"]
    context.state = RecordDict()
    replies = list(grid.send_and_receive([first]))
    assert replies[0].has_error()
    assert "holds version None" in replies[0].error.reason
    strategy.aggregate_train(4, replies)
    again = message(5)
    assert sorted(again.content["arrays"]) == ["2", "saddlebag.step"]
    assert (first.content["saddlebag"]["base"], again.content["saddlebag"]["base"]) == (0, -1)
    assert next(iter(grid.send_and_receive([again]))).has_content()


def test_a_lost_reply_of_a_shifted_client_resets_its_shift_and_does_no_harm() -> None:
    strategy = Compressed(fed_avg(), up={"name": "rand_k", "fraction": 0.2}, down={"name": "top_k", "fraction": 0.25})
    grid = InProcessGrid(app_of(compression_mod), CLIENTS, lost=lambda number, partition: number % 17 == 3 and number < 800)
    assert distance(run(strategy, grid, ROUNDS)) < 5e-3


def test_a_client_that_was_not_heard_gets_the_model_and_wastes_no_round() -> None:
    strategy = Compressed(fed_avg(), up=TOP, down={"name": "top_k", "fraction": 0.01})
    errors: list[Any] = []

    class Watching(InProcessGrid):
        def _reply(self, message: Any) -> Any:
            reply = super()._reply(message)
            errors.extend([reply.error] if reply.has_error() else [])
            return reply

    run(strategy, Watching(app_of(compression_mod), CLIENTS, lost=lambda number, partition: number == 9), 6)
    assert errors == []


def test_hostile_replies_become_errors() -> None:
    strategy = Compressed(fed_avg(), up=TOP)
    grid = InProcessGrid(app_of(compression_mod), CLIENTS)
    replies = list(grid.send_and_receive(strategy.configure_train(1, start(), ConfigRecord(), grid)))
    replies[0].content["arrays"]["saddlebag.up"] = Array("uint8", (3,), "saddlebag.payload/1", b"\xff\x00\x01")
    replies[1].content["saddlebag"]["worker"] = "zero"
    decoded = strategy._inwards(replies)
    assert [reply.has_error() for reply in decoded] == [False] * (CLIENTS - 2) + [True, True]


def test_a_client_without_the_mod_is_named() -> None:
    strategy = Compressed(fed_avg(), up=TOP)
    with pytest.raises(ConfigError, match="mods="):
        run(strategy, InProcessGrid(app_of(), CLIENTS), 1)


def test_wrong_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match="down must be contractive"):
        Compressed(fed_avg(), down={"name": "rand_k", "k": 1})
    with pytest.raises(ConfigError, match="does not fit"):
        Compressed(fed_avg(), up={"name": "rand_k", "k": 1}, memory="error_feedback")


def test_what_a_step_down_leaves_out_is_told_later() -> None:
    app = ClientApp(mods=[compression_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        (model_D,) = message.content["arrays"].to_numpy_ndarrays()
        first = message.content["config"]["server-round"] == 1
        record = ArrayRecord([model_D + TARGETS[0].astype(np.float32) if first else model_D])
        return Message(RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)

    strategy = Compressed(fed_avg(fraction_evaluate=0.0), down={"name": "top_k", "fraction": 0.25})
    grid = InProcessGrid(app, CLIENTS)
    strategy.start(grid=grid, initial_arrays=ArrayRecord([np.zeros(D, np.float32)]), num_rounds=6)
    told_D = next(iter(grid.contexts.values())).state.array_records["saddlebag.reference"]["known"].numpy()
    assert np.abs(told_D - TARGETS[0]).max() < 1e-5  # a quarter of it in each of the rounds 2 to 5
