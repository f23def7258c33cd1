from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

import saddlebag.flower.compression.references as module
from saddlebag.compression import SERVER, Draws
from saddlebag.errors import RemoteProtocolError
from saddlebag.flower import Compressed, InProcessGrid, compression_mod
from saddlebag.flower.compression.link import build, vector_digest
from saddlebag.flower.compression.packing import Schema, rounded, unpack_payload
from saddlebag.flower.compression.references import References, Way

D, CLIENTS, SAMPLED = 300, 20, 5
GRID = '{"name": "grid", "step": 0.25, "block": 64}'
SCHEMA = Schema.of(ArrayRecord([np.zeros(200, np.float32), np.zeros(100, np.float16)]))
ROOM = 8 * D


def target(number: int) -> Any:
    return np.random.default_rng(number).standard_normal(D)


class Client:
    """What a client does with a way, without Flower."""

    def __init__(self) -> None:
        self.known_D: Any = None

    def take(self, way: Way, target_D: Any) -> None:
        if way.step is None:
            self.known_D = rounded(target_D, SCHEMA)
        else:
            known_D = self.known_D.copy() if way.base >= 0 else np.zeros(D)
            unpack_payload(way.step, D, Draws(7, way.version, SERVER)).add_to(known_D)
            self.known_D = rounded(known_D, SCHEMA)
        assert vector_digest(self.known_D) == way.digest


def test_every_client_holds_what_the_server_thinks_it_holds_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    references, clients = References(build(GRID), SCHEMA, 7), [Client() for _ in range(CLIENTS)]
    steps = 0
    for round_ in range(60):
        references.begin(target(round_ // 10), ROOM)  # the model stands still for ten rounds at a time
        for node in rng.choice(CLIENTS, SAMPLED, replace=False):
            way = references.way(node)
            steps += way.step is not None
            clients[node].take(way, target(round_ // 10))
            if rng.random() < 0.9:  # else the reply is lost: the server cannot know whether the step was
                assert np.array_equal(references.heard(node, way.version), clients[node].known_D)
    assert steps > 40 * SAMPLED


def test_clients_that_received_the_same_share_a_payload_and_part_when_one_sits_out() -> None:
    references = References(build(GRID), SCHEMA, 7)

    def exchange(number: int, nodes: tuple[int, ...]) -> list[Way]:
        references.begin(target(number), ROOM)
        ways = [references.way(node) for node in nodes]
        for node, way in zip(nodes, ways, strict=True):
            references.heard(node, way.version)
        return ways

    for number, nodes in enumerate([(0, 1, 2), (0, 1, 2), (0, 1)]):
        assert len(set(map(id, exchange(number, nodes)))) == 1
    first, second, late = exchange(3, (0, 1, 2))
    assert first is second is not late
    assert late.base < first.base
    assert late.step is not None


def test_a_client_follows_the_model_at_the_compressors_rate() -> None:
    """|r' - x|^2 <= (1 - alpha) |r - x|^2 for a model that stands still, up to float16 and float32 (relative 2^-11)."""
    top = build('{"name": "top_k", "fraction": 0.2}')
    references, client = References(top, SCHEMA, 7), Client()
    references.begin(target(0), ROOM)
    client.take(references.way(0), target(0))
    references.heard(0, 0)
    square = float(((client.known_D - target(1)) ** 2).sum())
    for _ in range(12):
        references.begin(target(1), ROOM)
        way = references.way(0)
        client.take(way, target(1))
        references.heard(0, way.version)
        after = float(((client.known_D - target(1)) ** 2).sum())
        assert after <= (1 - 0.2) * square + D * (4 * 2.0**-11) ** 2
        square = after
    assert square < 1e-3


def test_a_report_of_another_reference_is_refused_and_the_client_gets_the_model() -> None:
    references = References(build(GRID), SCHEMA, 7)
    references.begin(target(0), ROOM)
    way = references.way(0)
    with pytest.raises(RemoteProtocolError, match="reports version"):
        references.heard(0, way.version + 1)
    with pytest.raises(RemoteProtocolError, match="it was sent None"):
        references.heard(1, way.version)
    references.begin(target(1), ROOM)
    assert references.way(0).base == -1


def test_a_client_that_holds_nothing_gets_16_bits_a_value_or_the_model_where_that_is_shorter() -> None:
    for room, shorter in ((ROOM, True), (D // 2, False)):
        references, client = References(build(GRID), SCHEMA, 7), Client()
        references.begin(target(0), room)
        way = references.way(0)
        client.take(way, target(0))
        assert way.base == -1
        assert (way.step is not None) == shorter
        assert way.step is None or len(way.step.data) <= 2 * D + 1
        assert (np.abs(client.known_D - target(0)) <= np.abs(target(0)) * (2.0**-8 + 2.0**-11) + 2.0**-24).all()
    references.begin(np.full(D, np.inf), ROOM)  # a model that has diverged is not compressed
    assert references.way(0).step is None


def test_a_step_longer_than_that_is_not_sent_and_old_references_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    long = References(build('{"name": "identity", "dtype": "float64"}'), SCHEMA, 7)
    long.begin(target(0), ROOM)
    long.heard(0, long.way(0).version)
    long.begin(target(1), ROOM)
    first, new = long.way(0), long.way(1)
    assert first is new
    assert first.base == -1
    references = References(build(GRID), SCHEMA, 7)
    monkeypatch.setattr(module, "_KEPT", 3)
    for node in range(10):
        references.begin(target(node), ROOM)
        references.heard(node, references.way(node).version)
    references.begin(target(10), ROOM)
    assert [node for node in range(10) if references.way(node).base >= 0] == [7, 8, 9]


@pytest.mark.parametrize("up", [None, {"name": "grid", "step": 0.5, "block": 64}], ids=("whole models up", "payloads up"))
def test_partial_participation_converges_though_every_client_misses_most_rounds(up: Any) -> None:
    targets = np.random.default_rng(1).standard_normal((CLIENTS, D))
    app = ClientApp(mods=[compression_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        (model_D,) = message.content["arrays"].to_numpy_ndarrays()
        trained_D = model_D - 0.1 * (model_D - targets.mean(axis=0))
        content = {"arrays": ArrayRecord([trained_D.astype(np.float32)]), "metrics": MetricRecord({"num-examples": 1})}
        return Message(RecordDict(content), reply_to=message)

    inner = FedAvg(fraction_train=SAMPLED / CLIENTS, min_available_nodes=CLIENTS, fraction_evaluate=0.0)
    strategy = Compressed(inner, up=up, down={"name": "grid", "step": 0.25, "block": 64}, memory="none")
    grid = InProcessGrid(app, CLIENTS, lost=lambda number, partition: number % 31 == 7)
    result = strategy.start(grid=grid, initial_arrays=ArrayRecord([np.zeros(D, np.float32)]), num_rounds=100)
    assert result.arrays is not None
    (model_D,) = result.arrays.to_numpy_ndarrays()
    assert np.abs(model_D - targets.mean(axis=0)).max() < 1e-3  # uncompressed 0.9^100 = 3e-5
