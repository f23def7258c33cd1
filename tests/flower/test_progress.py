from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from saddlebag.algorithms import Record
from saddlebag.algorithms.simulate import Stop
from saddlebag.flower import Compressed, InProcessGrid, Progress, RecordLines, compression_mod
from saddlebag.flower.progress import Tail, facts_table, log_and_file

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = 4


def app_of(*mods: Any) -> ClientApp:
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 3:
            raise RuntimeError("out of memory")
        (model_D,) = message.content["arrays"].to_numpy_ndarrays()
        metrics = MetricRecord({"num-examples": 1, "train-loss": 0.5})
        return Message(RecordDict({"arrays": ArrayRecord([model_D + 1]), "metrics": metrics}), reply_to=message)

    return app


@pytest.mark.parametrize("compress", [False, True], ids=("plain", "compressed"))
def test_a_line_a_round_with_clients_loss_accuracy_bytes_and_the_time_left(compress: bool) -> None:
    lines: list[str] = []
    inner: Any = FedAvg(fraction_evaluate=0.0, min_available_nodes=CLIENTS)
    strategy = Progress(Compressed(inner, up={"name": "natural"}) if compress else inner, write=lines.append)
    result = strategy.start(
        grid=InProcessGrid(app_of(*[compression_mod] * compress), CLIENTS),
        initial_arrays=ArrayRecord([np.zeros(3000, np.float32)]),
        num_rounds=3,
        evaluate_fn=lambda round_, arrays: MetricRecord({"accuracy": 0.25 * round_}),
    )
    assert len(lines) == 3
    for number, line in enumerate(lines, start=1):
        assert line.startswith(
            f"saddlebag: round {number} of 3, 3 of 4 clients, accuracy {0.25 * number:.4g}, train-loss 0.5, up "
        )
        assert ("left" in line) == (number < 3)
    ledger = strategy.ledger
    assert (ledger.up, ledger.down) > (0, 0)
    assert f"up {ledger.up / 1e3:.3g} kB, down {ledger.down / 1e3:.3g} kB" in lines[2]
    assert (ledger.up < 3 * 3 * 12_000) == compress
    assert list(result.evaluate_metrics_serverapp) == [0, 1, 2, 3]


def test_the_time_left_of_a_method_is_that_to_the_merit_and_not_to_the_last_round() -> None:
    now, lines = [0.0], list[str]()
    tell = RecordLines(Stop(merit=1e-6, max_rounds=100_000), 5, write=lines.append, clock=lambda: now[0])
    for step in range(6):
        now[0] = 2.0 * step
        tell(Record(round=50 * step, iteration=50 * step, merits={"distance": 10.0**-step}, up_bytes=900 * step, down_bytes=0))
    assert lines[0] == "saddlebag: round 0 of at most 100000, 5 clients, distance 1, up 0 B, down 0 B, 0.0 s"
    assert lines[5].endswith("distance 1e-05, up 4.5 kB, down 0 B, 10.0 s, 2 s left")  # a tenth in two seconds


def test_results_are_a_table_without_vectors() -> None:
    text = facts_table({"rounds": 400, "worst_loss": 0.123456, "up_bytes": 2_500_000, "z": [1.0] * 30})
    assert text.splitlines() == ["rounds      400", "worst_loss  0.1235", "up_bytes    2.5 MB"]


def test_lines_of_a_growing_file_come_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    tail = Tail(path)
    assert tail.fresh() == []
    write = log_and_file(str(path))
    write("one")
    write("two")
    with path.open("a") as file:
        file.write("half")
    assert [tail.fresh(), tail.fresh()] == [["one", "two"], []]
    with path.open("a") as file:
        file.write(" a line\n")
    assert tail.fresh() == ["half a line"]
