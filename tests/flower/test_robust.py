"""Rules in the place of the mean around a Flower strategy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, FedMedian

from saddlebag.algorithms.averages.means import make_mean
from saddlebag.errors import ConfigError
from saddlebag.flower import Compressed, InProcessGrid, Robust, compression_mod

D, CLIENTS = 60, 5
TARGETS = np.random.default_rng(0).standard_normal((CLIENTS, D))
RULES: list[Any] = [
    "coordinate_median",
    {"name": "trimmed_mean", "fraction": 0.2},
    "geometric_median",
    "centred_clipping",
    "norm_bound",
]


def app_of(change: Any, *mods: Any) -> ClientApp:
    """Clients that return their target; `change(client, model)` may alter it."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        arrays = message.content["arrays"].to_numpy_ndarrays()
        model = [(arrays[0] + 0.5 * (TARGETS[client] - arrays[0])).astype(np.float32), arrays[1]]
        metrics = MetricRecord({"num-examples": 10**6 if client == 0 else 1, "loss": float(client)})
        content = RecordDict({"arrays": ArrayRecord(change(client, model)), "metrics": metrics})
        return Message(content, reply_to=message)

    return app


def run(strategy: Any, change: Any = lambda client, model: model, mods: Any = (), rounds: int = 1) -> Any:
    initial = ArrayRecord([np.zeros(D, np.float32), np.array([3])])
    return strategy.start(grid=InProcessGrid(app_of(change, *mods), CLIENTS), initial_arrays=initial, num_rounds=rounds)


def fed_avg() -> FedAvg:
    return FedAvg(min_train_nodes=CLIENTS, min_available_nodes=CLIENTS, fraction_evaluate=0.0)


@pytest.mark.parametrize("mean", RULES)
def test_a_round_moves_the_model_by_what_the_rule_makes_of_the_updates(mean: Any) -> None:
    result = run(Robust(fed_avg(), mean))
    rule = make_mean(mean)
    assert rule is not None
    expected_D = rule.combine((0.5 * TARGETS).astype(np.float32).astype(np.float64))
    assert np.abs(result.arrays.to_numpy_ndarrays()[0] - expected_D).max() < 1e-6
    assert result.arrays.to_numpy_ndarrays()[1] == 3
    assert result.train_metrics_clientapp[1]["loss"] == 2.0


def test_clients_cannot_count_for_more_by_their_word_and_far_ones_hardly_matter() -> None:
    def far(client: int, model: Any) -> Any:
        return [np.full(D, 1e6, np.float32) if client == 0 else model[0], model[1]]

    result = run(Robust(fed_avg(), "coordinate_median"), far, rounds=20)
    assert np.abs(result.arrays.to_numpy_ndarrays()[0]).max() < np.abs(TARGETS).max() + 1
    plain = run(fed_avg(), far, rounds=2)
    assert np.abs(plain.arrays.to_numpy_ndarrays()[0]).min() > 1e5


def test_inside_compressed_it_ends_where_it_ends_with_whole_models() -> None:
    whole = run(Robust(fed_avg(), "geometric_median"), rounds=25)
    bits = {"name": "nearest_int8"}
    near = run(Compressed(Robust(fed_avg(), "geometric_median"), up=bits, down=bits), mods=[compression_mod], rounds=25)
    first, second = (result.arrays.to_numpy_ndarrays()[0] for result in (whole, near))
    assert np.abs(first - second).max() < 0.05


def test_clients_whose_model_cannot_be_used_are_left_out_by_name() -> None:
    def bad(client: int, model: Any) -> Any:
        match client:
            case 0:
                return [np.full(D, np.nan, np.float32), model[1]]
            case 1:
                return [model[0][:3], model[1]]
            case 2:
                raise RuntimeError("no power")
            case _:
                return model

    notes: list[str] = []
    result = run(Robust(fed_avg(), "coordinate_median", note=notes.append), bad)
    assert [note[:6] for note in notes] == ["node 2", "node 3", "node 4"]
    assert "holds nan at entry 0" in notes[0]
    assert "no power" in notes[2]
    expected_D = 0.5 * TARGETS[3:].mean(axis=0)
    assert np.abs(result.arrays.to_numpy_ndarrays()[0] - expected_D).max() < 1e-6


def test_a_round_without_a_model_leaves_the_one_that_was() -> None:
    def gone(client: int, model: Any) -> Any:
        raise RuntimeError

    result = run(Robust(fed_avg(), "coordinate_median", note=lambda text: None), gone)
    assert not result.train_metrics_clientapp


@pytest.mark.parametrize(
    ("strategy", "mean", "text"),
    [
        (FedMedian, "coordinate_median", "FedMedian needs each client's own reply"),
        (FedAvg, "mean", "needs a rule"),
        (FedAvg, "contribution", "contribution"),
        (FedAvg, "medain", "medain"),
    ],
)
def test_what_makes_no_sense_is_refused(strategy: Any, mean: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Robust(strategy(), mean)
