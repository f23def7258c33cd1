"""Secure aggregation of Flower apps: the bits of the run in the clear, who drops out, who lies, and what the server sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, Krum

from saddlebag.errors import ConfigError, PeerLost
from saddlebag.flower import Compressed, InProcessGrid, Secure, SecureMod, compression_mod, secure_mod
from saddlebag.flower.secure.link import ORDERS, SAID, Orders, said, says
from saddlebag.proto.secure.messages import Step
from saddlebag.proto.secure.primitives import public_of

D, CLIENTS, ROUNDS = 400, 5, 6
TARGETS = np.random.default_rng(0).standard_normal((CLIENTS, D))
DOWN = {"name": "grid", "step": 0.5, "block": 128}


def app_of(*mods: Any) -> ClientApp:
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = message.content["arrays"].to_numpy_ndarrays()
        model_D = np.concatenate([array.ravel() for array in arrays[:2]])
        client = int(context.node_config["partition-id"])
        trained_D = (model_D - 0.3 * (model_D - TARGETS[client])).astype(np.float32)
        record = ArrayRecord([trained_D[:300].reshape(10, 30), trained_D[300:], arrays[2]])
        loss = float(((model_D - TARGETS[client]) ** 2).mean())
        metrics = MetricRecord({"num-examples": 10 + client, "loss": loss})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    return app


def start() -> ArrayRecord:
    return ArrayRecord([np.zeros((10, 30), np.float32), np.zeros(100, np.float32), np.zeros(1, np.int64)])


def fed_avg() -> FedAvg:
    return FedAvg(min_train_nodes=CLIENTS, min_available_nodes=CLIENTS, fraction_evaluate=0.0)


def vector(result: Any) -> Any:
    return np.concatenate([array.ravel() for array in result.arrays.to_numpy_ndarrays()[:2]])


class Evil:
    """A mod around `secure_mod` that may change what a client says: `change(partition, step, data)`, or raise."""

    def __init__(self, change: Any = lambda partition, step, data: data) -> None:
        self._change = change
        self.seen: list[tuple[int, int, bytes]] = []

    def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
        orders = Orders.from_record(message.content.config_records[ORDERS])
        reply = call_next(message, context)
        partition = int(context.node_config["partition-id"])
        data = self._change(partition, orders.step, said(reply.content))
        self.seen.append((partition, orders.step, data))
        reply.content[SAID] = says(data)
        return reply


def run(*mods: Any, strategy: Any = None, rounds: int = ROUNDS, down: bool = True, lost: Any = None, **ways: Any) -> Any:
    secure = Secure(strategy or fed_avg(), **ways)
    ways_ = {} if lost is None else {"lost": lost}
    grid = InProcessGrid(app_of(*([compression_mod] if down else []), *mods), CLIENTS, **ways_)
    outer = Compressed(secure, down=DOWN) if down else secure
    result = outer.start(grid=grid, initial_arrays=start(), num_rounds=rounds)
    return result, secure


@pytest.mark.parametrize("up", ["nearest_int4", "nearest_int8"])
@pytest.mark.parametrize("down", [False, True])
def test_the_run_has_the_bits_of_the_same_run_in_the_clear_and_comes_to_the_mean(up: Any, down: bool) -> None:
    keys: dict[str, Any] = {"up": up, "down": down, "rounds": 25, "metrics": ["loss"]}
    masked, secure = run(secure_mod, **keys)
    clear, _ = run(SecureMod(clear=True), mask=False, **keys)
    assert np.array_equal(vector(masked), vector(clear))
    assert secure.arrived == CLIENTS
    error = np.abs(vector(masked) - TARGETS.mean(axis=0)).max()
    assert error < (0.02 if up == "nearest_int8" else 0.25)
    for name in ("loss", "num-examples"):
        both = [result.train_metrics_clientapp[3].get(name) for result in (masked, clear)]
        assert both[0] == both[1]
    losses = [result["loss"] for result in masked.train_metrics_clientapp.values()]
    assert losses[0] == pytest.approx(float((TARGETS**2).mean()), abs=1e-4)
    assert masked.train_metrics_clientapp[1]["saddlebag-secure-up-bytes"] > 0


def test_clients_may_count_by_their_examples() -> None:
    result, _ = run(secure_mod, most_examples=14, rounds=20, metrics=["loss"])
    weight = np.arange(10, 15)
    assert np.abs(vector(result) - weight @ TARGETS / weight.sum()).max() < 0.02
    expected = float((weight * (TARGETS**2).mean(axis=1)).sum() / weight.sum())
    assert result.train_metrics_clientapp[1]["loss"] == pytest.approx(expected, abs=1e-4)


def test_a_strategy_that_steps_by_the_mean_sees_it() -> None:
    adam = FedAdam(min_train_nodes=CLIENTS, min_available_nodes=CLIENTS, fraction_evaluate=0.0, eta=0.1)
    result, _ = run(secure_mod, strategy=adam, rounds=60, down=False)
    assert np.abs(vector(result) - TARGETS.mean(axis=0)).mean() < 0.1


@pytest.mark.parametrize("step", Step)
def test_a_fifth_of_the_clients_drops_out_at_a_step_and_the_bits_are_those_of_who_stayed(step: Step) -> None:
    """In the clear the same client is lost in the same rounds; what comes after its vector does not matter there."""

    def gone(partition: int, here: int, data: bytes) -> bytes:
        if partition == 1 and here == step:
            raise RuntimeError("gone")
        return data

    notes: list[str] = []
    masked, secure = run(Evil(gone), secure_mod, note=notes.append)
    late = step is Step.UNMASK
    assert secure.arrived == CLIENTS - (not late)
    assert ["gone" in note for note in notes] == [True] * ROUNDS

    def absent(message: Message, context: Context, call_next: Any) -> Message:
        if int(context.node_config["partition-id"]) == 1 and not late:
            raise RuntimeError("gone")
        return call_next(message, context)

    clear, _ = run(absent, SecureMod(clear=True), mask=False, note=lambda text: None)
    assert np.array_equal(vector(masked), vector(clear))


def test_a_client_whose_update_was_lost_owes_as_if_it_had_not_trained() -> None:
    """Its masked vector never comes in rounds 2 and 4: the bits are those of the clear run in which it was not heard either."""

    def mod(step: int) -> Any:
        rounds = iter(range(1, 100))

        def absent(message: Message, context: Context, call_next: Any) -> Message:
            orders = Orders.from_record(message.content.config_records[ORDERS])
            reply = call_next(message, context)
            if int(context.node_config["partition-id"]) == 2 and orders.step == step and next(rounds) in (2, 4):
                raise RuntimeError("lost on its way")
            return reply

        return absent

    masked, secure = run(mod(Step.MASKED), secure_mod, note=lambda text: None, up="nearest_int4")
    clear, _ = run(mod(Step.MASKED), SecureMod(clear=True), mask=False, note=lambda text: None, up="nearest_int4")
    assert np.array_equal(vector(masked), vector(clear))
    assert secure.arrived == CLIENTS


def test_a_wrong_key_is_refused_by_name_and_the_round_goes_on() -> None:
    notes: list[str] = []
    evil = Evil(lambda partition, step, data: bytes(64) if (partition, step) == (3, Step.KEYS) else data)
    _, secure = run(evil, secure_mod, rounds=1, note=notes.append)
    assert secure.arrived == CLIENTS - 1
    assert notes == ["worker 3's keys: it is no public key of X25519 (node 5); the round goes on without it"]


def test_shares_of_an_earlier_round_are_refused_by_who_gets_them() -> None:
    kept: list[bytes] = []

    def replays(partition: int, step: int, data: bytes) -> bytes:
        if (partition, step) == (0, Step.SHARES):
            kept.append(data)
            return kept[0]
        return data

    notes: list[str] = []
    with pytest.raises(PeerLost, match="3 rounds in a row"):
        run(Evil(replays), secure_mod, note=notes.append)
    assert any("worker 0's shares for worker 1: it was not sealed with this round's key" in note for note in notes)
    assert any("round 2 gives no sum, the model stays" in note and "worker 0 is node 2" in note for note in notes)


def test_a_wrong_share_is_named_and_the_round_survives() -> None:
    notes: list[str] = []
    evil = Evil(lambda partition, step, data: bytes(17) + data[17:] if (partition, step) == (4, Step.UNMASK) else data)
    result, secure = run(evil, secure_mod, note=notes.append, threshold=0.5)
    clear, _ = run(SecureMod(clear=True), mask=False)
    assert secure.arrived == CLIENTS
    assert np.array_equal(vector(result), vector(clear))
    assert not notes  # t shares of others were enough, and were tried first
    evil = Evil(lambda partition, step, data: bytes(17) + data[17:] if (partition, step) == (0, Step.UNMASK) else data)
    result, _ = run(evil, secure_mod, note=notes.append)
    assert np.array_equal(vector(result), vector(clear))
    assert notes[0].startswith("worker 0's share of worker 0's secret is wrong; worker 0 is node 2")


def test_a_mask_that_does_not_cancel_leaves_the_model_and_three_of_them_end_the_app() -> None:
    rounds: list[int] = []

    def wrong(partition: int, step: int, data: bytes) -> bytes:
        if (partition, step) == (1, Step.MASKED):
            rounds.append(1)
            if len(rounds) in bad:
                return bytes((data[0] ^ 1,)) + data[1:]
        return data

    bad: tuple[int, ...] = (2, 3, 5)
    notes: list[str] = []
    result, _ = run(Evil(wrong), secure_mod, rounds=6, note=notes.append)
    assert [note[:43] for note in notes] == [f"round {n} gives no sum, the model stays: the " for n in bad]
    assert "the masks do not cancel: one of workers 0, 1, 2, 3, 4" in notes[0]
    assert 2 not in result.train_metrics_clientapp or "loss" not in result.train_metrics_clientapp[2]
    clear, _ = run(SecureMod(clear=True), mask=False, rounds=3)
    assert np.abs(vector(result) - vector(clear)).max() < 0.3  # three rounds gave a sum
    rounds.clear()
    bad = (2, 3, 4)
    with pytest.raises(PeerLost, match=r"the masks do not cancel.*3 rounds in a row"):
        run(Evil(wrong), secure_mod, note=notes.append)


def test_a_second_question_after_a_round_is_not_answered() -> None:
    """The client forgets what it knew: nobody gets the other kind of share."""
    asked = []

    def twice(message: Message, context: Context, call_next: Any) -> Message:
        orders = Orders.from_record(message.content.config_records[ORDERS])
        reply = call_next(message, context)
        if orders.step == Step.UNMASK:
            assert not any("member" in name for name in context.state.config_records)
            with pytest.raises(Exception, match="takes no part in round"):
                call_next(message, context)
            asked.append(True)
        return reply

    run(twice, secure_mod, rounds=1)
    assert len(asked) == CLIENTS


def test_what_the_server_gets_of_a_client_does_not_tell_its_numbers() -> None:
    """The same update, in two runs: all bytes of the masked vectors differ but by chance."""
    seen = []
    for _ in range(2):
        evil = Evil()
        run(evil, secure_mod, rounds=1)
        seen += [np.frombuffer(data, np.uint8) for partition, step, data in evil.seen if (partition, step) == (0, Step.MASKED)]
    assert (seen[0] == seen[1]).mean() < 0.1


def test_a_client_trains_without_masks_only_where_its_app_says_so() -> None:
    with pytest.raises(PeerLost, match=r"no client has replied.*3 rounds in a row"):
        run(secure_mod, mask=False, note=lambda text: None)
    grid = InProcessGrid(app_of(secure_mod), CLIENTS)
    result = fed_avg().start(grid=grid, initial_arrays=start(), num_rounds=1)
    assert not result.train_metrics_clientapp


def test_the_server_cannot_ask_for_sums_that_few_unmask() -> None:
    orders = Orders(step=0, rank=0, members=5, threshold=2, context="00")
    with pytest.raises(Exception, match="more than half must be needed"):
        Orders.from_record(orders.to_record())


def test_mods_in_the_wrong_order_are_named() -> None:
    notes: list[str] = []
    grid = InProcessGrid(app_of(secure_mod, compression_mod), CLIENTS)
    with pytest.raises(PeerLost):
        Compressed(Secure(fed_avg(), note=notes.append), down=DOWN).start(grid=grid, initial_arrays=start(), num_rounds=3)
    assert any("mods=[compression_mod, secure_mod]" in note for note in notes)


@pytest.mark.parametrize("kind", [FedMedian, Krum])
def test_strategies_that_need_single_replies_are_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match=f"{kind.__name__} needs each client's own reply"):
        Secure(kind())


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"threshold": 0.4}, "more than half"),
        ({"memory": "ef21"}, "memory must be"),
        ({"up": "top_k"}, "top_k|nearest_int4"),
        ({"common_range": 0.0}, "common_range"),
    ],
)
def test_parameters_that_cannot_be_kept_are_refused(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Secure(fed_avg(), **keys)


def test_two_clients_are_too_few() -> None:
    few = FedAvg(min_train_nodes=2, min_available_nodes=2, fraction_train=0.4, fraction_evaluate=0.0)
    with pytest.raises(ConfigError, match="at least 3 clients"):
        run(secure_mod, strategy=few)


def test_a_metric_that_is_no_number_leaves_its_client_out() -> None:
    notes: list[str] = []
    with pytest.raises(PeerLost):
        run(secure_mod, metrics=["accuracy"], note=notes.append, rounds=4)
    assert any("the metric 'accuracy' must be a finite number, got None" in note for note in notes)


def test_an_app_without_the_mod_ends_clearly() -> None:
    with pytest.raises(PeerLost, match=r"0 have sent keys.*3 rounds in a row"):
        run(note=lambda text: None)


def test_orders_of_another_release_are_refused() -> None:
    record = Orders(step=0, rank=0, members=3, threshold=2, context="00").to_record()
    with pytest.raises(Exception, match="use the same release"):
        Orders.from_record(ConfigRecord({**record, "protocol": 0}))


def test_clients_that_sign_their_keys_share_nothing_with_a_stranger() -> None:
    secrets = [bytes([number + 1]) * 32 for number in range(CLIENTS)]
    known = [public_of(secret) for secret in secrets]

    def mods(posed: int) -> Any:
        each = [SecureMod(signing_key=secret, signers=known) for secret in secrets]
        if posed:
            each[posed] = SecureMod(signing_key=bytes(32), signers=[*known, public_of(bytes(32))])

        def mod(message: Message, context: Context, call_next: Any) -> Message:
            return each[int(context.node_config["partition-id"])](message, context, call_next)

        return mod

    signed, _ = run(mods(0), rounds=2)
    clear, _ = run(SecureMod(clear=True), mask=False, rounds=2)
    assert np.array_equal(vector(signed), vector(clear))
    notes: list[str] = []
    with pytest.raises(PeerLost, match="have sent shares"):
        run(mods(2), rounds=3, note=notes.append)
    assert any("worker 2's keys are not signed by the key that the run knows" in note for note in notes)
