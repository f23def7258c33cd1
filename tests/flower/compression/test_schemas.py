"""Models of all kinds of arrays and replies of all shapes: the wrapper does what the strategy inside does without it."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedMedian, FedXgbBagging
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.flower import Compressed, InProcessGrid, compression_mod
from saddlebag.flower.compression.dtypes import Dtypes
from saddlebag.flower.compression.packing import NAMES, Schema, names_of
from saddlebag.proto.seal import sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flwr.app import Context

CLIENTS = 3
GRID = {"name": "grid", "step": 0.25, "block": 64}
EXACT = {"name": "identity", "dtype": "float64"}
WAYS = [
    pytest.param({}, id="nothing"),
    pytest.param({"up": GRID}, id="up"),
    pytest.param({"down": GRID}, id="down"),
    pytest.param({"up": GRID, "down": GRID}, id="both"),
    pytest.param({"up": GRID, "down": GRID, "memory": "ef21"}, id="shift"),
]
Model = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run(
    model: Model,
    train: Callable[[Model, int, int], Model],
    *,
    inner: Any = None,
    rounds: int = 4,
    lost: Any = lambda number, partition: False,
    plain: bool = False,
    **ways: Any,
) -> tuple[Any, list[list[Model]], Any]:
    """Flower's result, what each client was sent in each of its rounds, and the strategy."""
    app = ClientApp(mods=[] if plain else [compression_mod])
    seen: list[list[Model]] = [[] for _ in range(CLIENTS)]

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        received = {name: array.numpy() for name, array in message.content["arrays"].items()}
        seen[client].append(received)
        trained = train({name: value.copy() for name, value in received.items()}, client, len(seen[client]))
        record = ArrayRecord({name: Array(np.asarray(value)) for name, value in trained.items()})
        metrics = MetricRecord({"num-examples": 10 * (client + 1)})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    inner = inner or FedAvg(fraction_evaluate=0.0, min_available_nodes=CLIENTS)
    strategy = inner if plain else Compressed(inner, **ways)
    record = ArrayRecord({name: Array(value) for name, value in model.items()})
    result = strategy.start(grid=InProcessGrid(app, CLIENTS, lost=lost), initial_arrays=record, num_rounds=rounds)
    return result, seen, strategy


def values(result: Any) -> Model:
    return {name: array.numpy() for name, array in (result.arrays or {}).items()}


def small() -> Model:
    rng = np.random.default_rng(0)
    return {
        "w": rng.standard_normal((20, 10)).astype(np.float32),
        "bn.mean": np.zeros(10, np.float32),
        "bn.n": np.array(0, np.int64),
        "index": np.arange(200) * 7 + 3,
        "mask": np.array([True, False, True]),
        "bytes": np.arange(5, dtype=np.uint8) + 251,
        "none": np.zeros((0, 4), np.float32),
        "scale": np.array(2.5, np.float32),
    }


def step(model: Model, client: int, number: int) -> Model:
    model["w"] = model["w"] - np.float32(0.125 * (client + 1))
    model["bn.n"] = np.asarray(model["bn.n"] + 7)
    return model


@pytest.mark.parametrize("ways", WAYS)
def test_whole_numbers_keep_dtype_and_value_at_clients_and_in_the_result(ways: dict[str, Any]) -> None:
    start = small()
    result, seen, _ = run(start, step, **ways)
    for client in seen:
        for number, received in enumerate(client):
            assert {name: value.dtype for name, value in received.items()} == {
                name: value.dtype for name, value in start.items()
            }
            assert received["bn.n"] == 7 * number
            for name in ("index", "mask", "bytes"):
                assert np.array_equal(received[name], start[name])
    final = values(result)
    assert (final["bn.n"], final["bn.n"].dtype) == (28, np.int64)
    assert final["mask"].dtype == bool
    assert np.array_equal(final["index"], start["index"])
    mean = np.float32(0.125 * (1 + 4 + 9) / 6)
    assert np.abs(final["w"] - (start["w"] - 4 * mean)).max() < 0.05  # a coarse grid; the shared step is told in full


def test_numbers_beyond_the_mantissa_stay_to_the_last_bit_where_all_clients_agree() -> None:
    start = {
        "w": np.ones(4, np.float32),
        "key": np.array([2**62 + 1, 5, -(2**61) - 3]),
        "top": np.array([2**64 - 1], np.uint64),
    }
    result, seen, _ = run(
        start, lambda model, client, number: model | {"key": model["key"] + np.array([0, client, 0])}, up=GRID
    )
    assert [int(seen[0][3]["key"][at]) for at in (0, 2)] == [2**62 + 1, -(2**61) - 3]
    assert int(values(result)["top"][0]) == 2**64 - 1
    assert seen[0][1]["key"][1] == 5 + np.rint((0 * 10 + 1 * 20 + 2 * 30) / 60)


@pytest.mark.parametrize("ways", WAYS)
def test_clients_that_return_the_shared_layers_only(ways: dict[str, Any]) -> None:
    """FedBN, FedPer: the strategy's model is what comes back, as without the wrapper, and it is still compressed."""

    def train(model: Model, client: int, number: int) -> Model:
        return {"w": model["w"] - np.float32(client + 1)}

    start = {"w": np.zeros((40, 30), np.float32), "bn.mean": np.ones(10, np.float32), "bn.n": np.array(3)}
    expected, _, _ = run(start, train, plain=True)
    result, seen, strategy = run(start, train, **ways)
    assert [sorted(received) for received in seen[0]] == [["bn.mean", "bn.n", "w"], ["w"], ["w"], ["w"]]
    assert values(result).keys() == values(expected).keys()
    np.testing.assert_allclose(values(result)["w"], values(expected)["w"], atol=1e-5)
    if "up" in ways:
        assert strategy.ledger.up * 3 < strategy.ledger.plain_up
    if "down" in ways:
        assert strategy.ledger.down * 2 < strategy.ledger.plain_down


@pytest.mark.parametrize("ways", WAYS)
def test_a_strategy_that_merges_partial_replies_keeps_the_rest(ways: dict[str, Any]) -> None:
    class Merging(FedAvg):
        full: dict[str, Array]

        def configure_train(self, server_round: int, arrays: ArrayRecord, *rest: Any) -> Any:
            self.full = dict(arrays.items())
            return super().configure_train(server_round, arrays, *rest)

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            arrays, metrics = super().aggregate_train(server_round, replies)
            return (ArrayRecord({**self.full, **arrays}) if arrays else None), metrics

    start = {"body": np.full(5000, np.float32(3.14159)), "head": np.ones(4, np.float32)}
    inner = Merging(fraction_evaluate=0.0, min_available_nodes=CLIENTS)
    result, _, strategy = run(start, lambda model, client, number: {"head": model["head"] - 1}, inner=inner, **ways)
    final = values(result)
    np.testing.assert_allclose(final["head"], -3, atol=1e-6)
    assert np.abs(final["body"] - start["body"]).max() == 0
    assert strategy.ledger.up <= strategy.ledger.plain_up + 400 * CLIENTS * 4  # few numbers go up as they are, with the report


@pytest.mark.parametrize("ways", WAYS)
def test_an_array_that_clients_add_is_aggregated_and_comes_back(ways: dict[str, Any]) -> None:
    def train(model: Model, client: int, number: int) -> Model:
        added = model.get("new", np.zeros(50, np.float32)) + np.float32(client)
        return model | {"new": added, "count": np.array([client, 4], np.int32)}

    start = {"w": np.ones((20, 10), np.float32)}
    expected, _, _ = run(start, train, plain=True)
    result, seen, _ = run(start, train, **ways)
    assert [sorted(received) for received in seen[1]] == [["w"]] + [["count", "new", "w"]] * 3
    assert values(result)["count"].dtype == seen[1][1]["count"].dtype == np.int32
    np.testing.assert_allclose(values(result)["new"], values(expected)["new"], atol=0.02)


@pytest.mark.parametrize("ways", WAYS)
def test_one_client_with_nan_is_left_out_alone_and_named(ways: dict[str, Any]) -> None:
    def train(model: Model, client: int, number: int) -> Model:
        model["w"] = model["w"] - 1
        if client == 1 and number % 2:
            model["w"][0, 3] = np.nan
        return model

    errors: list[str] = []

    class Watched(FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            replies = list(replies)
            errors.extend(reply.error.reason for reply in replies if reply.has_error())
            assert len([reply for reply in replies if reply.has_error()]) == server_round % 2
            return super().aggregate_train(server_round, replies)

    start = {"w": np.zeros((20, 10), np.float32), "n": np.array(1)}
    result, _, _ = run(start, train, inner=Watched(fraction_evaluate=0.0, min_available_nodes=CLIENTS), **ways)
    np.testing.assert_allclose(values(result)["w"], -4, atol=1e-5)
    assert [error.count("client 1 is left out") for error in errors] == [1, 1]
    for error, exchange in zip(errors, (1, 3), strict=True):
        assert f" {exchange}: client 1" in error
        assert "'w' holds nan at entry 3" in error


@pytest.mark.parametrize("ways", WAYS)
def test_nan_in_an_array_that_travels_as_it_is_counts_too(ways: dict[str, Any]) -> None:
    def train(model: Model, client: int, number: int) -> Model:
        return model | {"new": np.full(3, np.nan if client == 2 else 1.0, np.float32)}

    result, _, _ = run({"w": np.ones(30, np.float32)}, train, rounds=1, **ways)
    assert np.array_equal(values(result)["new"], np.ones(3, np.float32))


@pytest.mark.parametrize("ways", WAYS)
def test_masks_of_infinities_travel_as_they_are(ways: dict[str, Any]) -> None:
    mask = np.where(np.tri(6) > 0, 0, -np.inf).astype(np.float32)
    result, seen, _ = run({"w": np.zeros((20, 10), np.float32), "mask": mask}, step_w, **ways)
    assert len(seen[0]) == 4
    assert all(np.array_equal(received["mask"], mask) for received in seen[0][:2])  # then it is a mean: 0 * inf
    np.testing.assert_allclose(values(result)["w"], -4, atol=1e-5)


def step_w(model: Model, client: int, number: int) -> Model:
    return model | {"w": model["w"] - 1}


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("kind", ["integers", "empty floats", "nothing returned"])
def test_a_model_without_a_vector_passes(ways: dict[str, Any], kind: str) -> None:
    start = {"integers": {"t": np.arange(5)}, "empty floats": {"t": np.arange(5), "f": np.zeros((0, 3), np.float32)}}
    if kind == "nothing returned":
        result, seen, _ = run({"w": np.ones(3, np.float32)}, lambda model, client, number: {}, **ways)
        assert [sorted(received) for received in seen[0]] == [["w"], [], [], []]
        return
    result, seen, _ = run(start[kind], lambda model, client, number: model | {"t": model["t"] + 1}, **ways)
    assert np.array_equal(values(result)["t"], np.arange(5) + 4)
    assert seen[0][3]["t"].dtype == np.int64


@pytest.mark.parametrize("ways", WAYS)
def test_trees_of_bytes_grow_as_without_the_wrapper(ways: dict[str, Any]) -> None:
    def train(model: Model, client: int, number: int) -> Model:
        return {"0": np.frombuffer(TREES % (client, client), np.uint8)}

    start = {"0": np.zeros(0, np.uint8)}
    models = []
    for plain in (True, False):
        inner = FedXgbBagging(fraction_evaluate=0.0, min_available_nodes=CLIENTS)
        result, _, _ = run(start, train, inner=inner, rounds=2, plain=plain, **({} if plain else ways))
        models.append(values(result)["0"].tobytes())
    assert models[0].count(b'"id"') == 6
    assert Counter(models[0]) == Counter(models[1])  # Flower orders the replies of the plain app by chance


TREES = (
    b'{"learner": {"gradient_booster": {"model": {"gbtree_model_param": {"num_trees": "1", "num_parallel_tree": "1"}, '
    b'"iteration_indptr": [0, 1], "trees": [{"id": 0, "leaf": %d, "more": %d}], "tree_info": [0]}}}}'
)


@pytest.mark.parametrize("ways", WAYS)
def test_clients_that_come_and_go_and_rounds_in_which_all_fail(ways: dict[str, Any]) -> None:
    def train(model: Model, client: int, number: int) -> Model:
        if number == 3:
            raise RuntimeError("CUDA out of memory")
        return step(model, 0, number)

    def lost(number: int, partition: int) -> bool:
        return number in (1, 5, 12)

    start = small()
    result, seen, _ = run(start, train, rounds=7, lost=lost, **ways)
    final = values(result)
    assert final["bn.n"] == 7 * 6  # all but the round in which all fail
    np.testing.assert_allclose(final["w"], start["w"] - np.float32(0.125 * 6), atol=1e-4)
    assert seen[2][-1]["index"].dtype == np.int64


@pytest.mark.parametrize("ways", WAYS)
def test_dtypes_that_clients_change(ways: dict[str, Any]) -> None:
    def train(model: Model, client: int, number: int) -> Model:
        return {
            "w": (model["w"] - 1).astype((np.float64, np.float16, ">f4")[client]),
            "narrow": model["narrow"].astype(np.float64),  # the values fit: stays uint8
            "grows": model["grows"].astype(np.int64) + 300,  # they do not: becomes int64
            "broken": model["broken"] + 0.25,  # becomes floating-point, as without the wrapper
        }

    start = {
        "w": np.zeros(40, ">f4"),
        "narrow": np.arange(3, dtype=np.uint8),
        "grows": np.zeros(2, np.uint8),
        "broken": np.zeros(2, np.int64),
    }
    with pytest.warns(UserWarning, match="a dtype that its own cannot hold") as told:
        result, seen, _ = run(start, train, **ways)
    assert {str(each.message).split("'")[1] for each in told} == {"grows", "broken"}
    final = values(result)
    np.testing.assert_allclose(final["w"].astype(float), -4, atol=1e-3)
    assert seen[0][-1]["narrow"].dtype == np.uint8
    assert (final["grows"].dtype, final["grows"].tolist()) == (np.int64, [1200, 1200])
    np.testing.assert_allclose(final["broken"], 1.0, atol=0.02)


@pytest.mark.parametrize("inner", [FedAvg, FedAvgM, FedAdam, FedMedian], ids=lambda each: each.__name__)
@pytest.mark.parametrize("down", [None, EXACT], ids=("whole", "steps"))
def test_strategies_with_and_without_a_state_come_to_the_plain_result(inner: Any, down: Any) -> None:
    """The whole numbers that reach clients are the plain strategy's, rounded; floats differ by the first model's 16 bits."""
    params = {"server_learning_rate": 0.5, "server_momentum": 0.9} if inner is FedAvgM else {}
    results = []
    start = {name: value for name, value in small().items() if inner is not FedAdam or value.dtype != bool}
    for plain in (True, False):
        strategy = inner(fraction_evaluate=0.0, min_available_nodes=CLIENTS, **params)
        ways = {} if plain else {"up": EXACT, "down": down, "memory": "ef21"}
        results.append(values(run(drop_bools(start), pull, inner=strategy, rounds=6, plain=plain, **ways)[0]))
    for name, value in results[0].items():
        if start[name].dtype.kind == "f":
            np.testing.assert_allclose(results[1][name], value, atol=1e-5 if down is None else 5e-3)
        else:
            assert results[1][name].dtype == start[name].dtype
            limits = np.iinfo(start[name].dtype)
            np.testing.assert_allclose(results[1][name], np.clip(np.rint(value), limits.min, limits.max), atol=0)


def drop_bools(model: Model) -> Model:
    return {name: value for name, value in model.items() if value.dtype != bool}  # numpy subtracts no booleans in FedAvgM


def pull(model: Model, client: int, number: int) -> Model:
    model["w"] = (model["w"] - 0.3 * (model["w"] - client)).astype(np.float32)
    model["bn.mean"] = model["bn.mean"] + np.float32(0.25)
    return model


DTYPES = (np.float32, np.float64, np.int64, np.int8, np.uint8, np.bool_)
SHAPES = ((), (1,), (3,), (0,), (2, 3))
names = st.sampled_from("abcdef")
arrays = st.tuples(st.sampled_from(DTYPES), st.sampled_from(SHAPES), st.integers(0, 2**20))


def filled(dtype: Any, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Numbers whose means over the clients are whole, too: multiples of 6, for floating-point ones over 16."""
    rng = np.random.default_rng(seed)
    whole = rng.integers(0, 11, shape) * 6
    return (
        np.asarray(whole % 12 > 0)
        if dtype is np.bool_
        else np.asarray(whole / (16 if dtype in (np.float32, np.float64) else 1)).astype(dtype)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(names, arrays, min_size=1),
    st.dictionaries(st.sampled_from("uvw"), arrays, max_size=2),
    st.lists(st.tuples(st.sets(names), st.sets(st.sampled_from("uvw"))), min_size=1, max_size=3),
    st.booleans(),
)
def test_with_exact_compressors_any_replies_give_what_plain_fedavg_gives(
    model: Any, more: Any, rounds: Any, shift: bool
) -> None:
    """Whatever arrays the model has, whichever of them come back and whatever is added, in every round anew."""
    start = {name: filled(*facts) for name, facts in model.items()}
    added = {name: filled(*facts) for name, facts in more.items()}

    def train(received: Model, client: int, number: int) -> Model:
        left_out, included = rounds[number - 1]
        out = {name: value for name, value in {**added, **received}.items() if name in {*received, *included} - left_out}
        for name, value in out.items():
            dtype = {**start, **added}[name].dtype  # without the wrapper whole numbers come as float64
            if dtype.kind == "f":
                out[name] = (value + 6 * client / 16).astype(dtype)
            elif dtype.kind != "b":
                out[name] = np.rint(value + 6 * client).astype(dtype)
        return out

    plain, _, _ = run(start, train, rounds=len(rounds), plain=True)
    ways: dict[str, Any] = {"up": EXACT, "memory": "ef21" if shift else "error_feedback"}
    wrapped, _, _ = run(start, train, rounds=len(rounds), **ways)
    expected, final = values(plain), values(wrapped)
    assert final.keys() == expected.keys()
    for name, value in expected.items():
        assert final[name].shape == value.shape
        assert final[name].dtype.kind == {**start, **added}[name].dtype.kind
        np.testing.assert_allclose(final[name].astype(float), np.asarray(value, float), rtol=1e-6, atol=1e-6)


def test_a_strategy_may_send_more_than_the_model() -> None:
    class Controlled(FedAvg):
        def configure_train(self, *arguments: Any) -> Any:
            messages = list(super().configure_train(*arguments))
            for message in messages:
                message.content["control"] = ArrayRecord({"c": Array(np.zeros(3, np.float32))})
            return messages

    inner = Controlled(fraction_evaluate=0.0, min_available_nodes=CLIENTS)
    result, _, _ = run({"w": np.zeros(50, np.float32)}, step_w, inner=inner, up=GRID, down=GRID)
    np.testing.assert_allclose(values(result)["w"], -4, atol=1e-5)


def test_a_model_that_the_strategy_itself_breaks_travels_as_it_is() -> None:
    class Breaking(FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            _, metrics = super().aggregate_train(server_round, replies)
            return ArrayRecord({"w": Array(np.full(30, np.inf, np.float32))}), metrics

    with pytest.warns(UserWarning, match="the strategy's model has diverged, array 'w' holds inf at entry 0"):
        _, seen, _ = run(
            {"w": np.zeros(30, np.float32)},
            step_w,
            inner=Breaking(fraction_evaluate=0.0, min_available_nodes=CLIENTS),
            up=GRID,
            down=GRID,
        )
    assert len(seen[0]) == 4
    assert np.isinf(seen[0][-1]["w"]).all()


def test_names_of_a_part_are_checked() -> None:
    schema = Schema.of(ArrayRecord({"a": Array(np.zeros(2)), "b": Array(np.zeros(3))}))
    for data, message in ((b"[1]", "a list of names"), (b"{", "no list"), (b'["c"]', "no array of the model")):
        data = sealed(data)
        record = ArrayRecord({NAMES: Array("uint8", (len(data),), "saddlebag.names/1", data)})
        with pytest.raises(Exception, match=message):
            names_of(record, schema)


def test_means_are_rounded_to_even_kept_in_range_and_true_above_one_half() -> None:
    dtypes = Dtypes()
    dtypes.learn(ArrayRecord({"n": Array(np.zeros(5, np.uint8)), "b": Array(np.zeros(3, bool))}))
    means = ArrayRecord({"n": Array(np.array([0.5, 1.5, -3.0, 300.0, 2.4])), "b": Array(np.array([0.5, 0.51, 1.0]))})
    restored = dtypes.restored(means)
    assert restored["n"].numpy().tolist() == [0, 2, 0, 255, 2]
    assert restored["b"].numpy().tolist() == [False, True, True]
    assert restored["n"].dtype == "uint8"


class ByKey(FedAvg):
    """Means of whoever returned an array, over the strategy's own model: clients of different sizes."""

    def configure_train(self, server_round: int, arrays: ArrayRecord, *rest: Any) -> Any:
        self.full = {name: array.numpy() for name, array in arrays.items()}
        return super().configure_train(server_round, arrays, *rest)

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        records = [reply.content["arrays"] for reply in replies if reply.has_content()]
        for name in self.full:
            if parts := [record[name].numpy() for record in records if name in record]:
                self.full[name] = np.mean(parts, axis=0)
        return ArrayRecord({name: Array(value) for name, value in self.full.items()}), MetricRecord({"clients": len(records)})


@pytest.mark.parametrize("ways", WAYS)
def test_clients_that_return_different_arrays_in_one_round(ways: dict[str, Any]) -> None:
    start = {name: np.zeros(400, np.float32) for name in "abc"} | {"n": np.zeros(2, np.int16)}

    def train(model: Model, client: int, number: int) -> Model:
        kept = ("abc"[client], "a", "n") if client else ("a",)
        return {name: model[name] + model[name].dtype.type(client + 1) for name in dict.fromkeys(kept)}

    results = [
        run(
            start,
            train,
            inner=ByKey(fraction_evaluate=0.0, min_available_nodes=CLIENTS),
            plain=plain,
            **({} if plain else ways),
        )
        for plain in (True, False)
    ]
    expected, final = (values(result) for result, _, _ in results)
    for name in "abc":
        np.testing.assert_allclose(final[name], expected[name], atol=0.05)
    assert final["n"].tolist() == [8, 8]  # the strategy has 2.5, 4.5, 6.5, 8.5; clients and the result the nearest even ones
    assert final["n"].dtype == np.int16
    with pytest.raises(Exception, match="same keys"):  # what FedAvg itself says
        run(start, train, plain=True)
    with pytest.raises(Exception, match="same keys"):
        run(start, train, **ways)
