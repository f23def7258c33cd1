"""What three bad clients of ten do to a Flower app, under Flower's strategies and Saddlebag's rules, compressed or not.

    python benchmarks/study_flower_robust.py [--seeds 2] [--rounds 20] [--json FILE]

The app is `examples/flower_fedavg` (digits, 17,226 parameters), ten clients with a tenth of the rows each, drawn evenly, two
epochs a round, in one process without Ray. Three clients, the first, return in every round

    flip    the received model less four times what they found
    noise   it plus normal entries, thirty times as large as an honest update's
    copy    it plus ten times what the last client, an honest one, finds

Shown is the accuracy on the held-out rows, mean over the last three rounds and the seeds, in percent: with whole models,
and, as `8 bits`, inside `Compressed` with nearest_int8 both ways. Flower's strategies are told of three bad clients; Bulyan
cannot be (it needs 4 f + 3 clients) and is told of one.

Asked: compression costs at most one point.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import Row, add_output_options, interleaved, progress, save, show

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples" / "flower_fedavg"))  # the app under test

# ruff: noqa: E402
import torch
from fedavg_digits.task import accuracy, digits, network
from fedavg_digits.task import train as fit
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

from saddlebag.flower import Compressed, InProcessGrid, Robust, compression_mod

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS, BAD, EPOCHS, RATE = 10, 3, 2, 0.1
ALL: dict[str, Any] = {"min_train_nodes": CLIENTS, "min_available_nodes": CLIENTS, "fraction_evaluate": 0.0}
ATTACKS = ("none", "flip", "noise", "copy")
STRATEGIES: dict[str, Callable[[], Any]] = {
    "FedAvg": lambda: FedAvg(**ALL),
    "FedMedian": lambda: FedMedian(**ALL),
    "FedTrimmedAvg, 0.3": lambda: FedTrimmedAvg(**ALL, beta=0.3),
    "Krum, 3": lambda: Krum(**ALL, num_malicious_nodes=3),
    "MultiKrum, 3, 7 chosen": lambda: MultiKrum(**ALL, num_malicious_nodes=3, num_nodes_to_select=7),
    "Bulyan, 1": lambda: Bulyan(**ALL, num_malicious_nodes=1),
    "Robust, coordinate_median": lambda: Robust(FedAvg(**ALL), "coordinate_median"),
    "Robust, trimmed_mean 0.3": lambda: Robust(FedAvg(**ALL), {"name": "trimmed_mean", "fraction": 0.3}),
    "Robust, geometric_median": lambda: Robust(FedAvg(**ALL), "geometric_median"),
    "Robust, centred_clipping": lambda: Robust(FedAvg(**ALL), "centred_clipping"),
    "Robust, norm_bound": lambda: Robust(FedAvg(**ALL), "norm_bound"),
}
EIGHT_BITS = {"name": "nearest_int8"}


def trained(client: int, round_: int, start: ArrayRecord, seed: int) -> dict[str, torch.Tensor]:
    """What an honest client returns."""
    rows_N = np.random.default_rng(seed).permutation(len(digits()[1]))[client::CLIENTS]
    model = network(seed)
    model.load_state_dict(start.to_torch_state_dict())
    fit(model, rows_N, EPOCHS, RATE, round_ * 10_007 + client)
    return dict(model.state_dict())


def app_of(attack: str, mods: list[Any]) -> ClientApp:
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        client, config = int(context.node_config["partition-id"]), message.content.config_records["config"]
        start, seed, round_ = (
            message.content.array_records["arrays"],
            int(str(config["seed"])),
            int(str(config["server-round"])),
        )
        bad = client < BAD and attack != "none"
        found = trained(CLIENTS - 1 if bad and attack == "copy" else client, round_, start, seed)
        if bad:
            rng = np.random.default_rng((seed, round_, client))
            for name, before in start.to_torch_state_dict().items():
                update = (found[name] - before).numpy()
                size = 30.0 * float(np.sqrt(np.square(update).mean()))
                wrong = {"flip": -4.0 * update, "copy": 10.0 * update, "noise": size * rng.standard_normal(update.shape)}[
                    attack
                ]
                found[name] = before + torch.from_numpy(np.asarray(wrong, np.float32))
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": ArrayRecord(found), "metrics": metrics}), reply_to=message)

    return app


def run(name: str, attack: str, compressed: bool, rounds: int, seed: int) -> float:
    found: list[float] = []

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model = network(seed)
        model.load_state_dict({key: value.float() for key, value in arrays.to_torch_state_dict().items()})
        found.append(accuracy(model))
        return MetricRecord({"accuracy": found[-1]})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strategies that compare distances, and of models that have diverged
        inner = STRATEGIES[name]()
        strategy = Compressed(inner, up=EIGHT_BITS, down=EIGHT_BITS, seed=seed) if compressed else inner
        strategy.start(
            grid=InProcessGrid(app_of(attack, [compression_mod] if compressed else []), CLIENTS),
            initial_arrays=ArrayRecord(network(seed).state_dict()),
            num_rounds=rounds,
            train_config=ConfigRecord({"seed": seed}),
            evaluate_fn=evaluate,
        )
    return 100.0 * float(np.mean(found[-3:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=list(STRATEGIES), help="names of strategies")
    add_output_options(parser)
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    rows: list[Row] = []
    for seed, name in interleaved(options.only, options.seeds):
        for attack in ATTACKS:
            for compressed in (False, True):
                percent = run(name, attack, compressed, options.rounds, seed)
                rows.append({"strategy": name, "attack": attack, "compressed": compressed, "seed": seed, "accuracy": percent})
        progress(f"{name}, seed {seed}: {[round(row['accuracy'], 1) for row in rows[-8:]]}")

    def mean(name: str, attack: str, compressed: bool) -> float:
        like = (name, attack, compressed)
        return float(np.mean([r["accuracy"] for r in rows if (r["strategy"], r["attack"], r["compressed"]) == like]))

    lines = [[n, *(f"{mean(n, attack, way):.1f}" for attack in ATTACKS for way in (False, True))] for n in options.only]
    title = (
        f"Digits in Flower, {BAD} of {CLIENTS} clients bad, {options.rounds} rounds, {options.seeds} seeds, accuracy in percent"
    )
    header = ["strategy", *(text for attack in ATTACKS for text in (attack, "8 bits"))]
    show(title, header, lines, markdown=options.markdown)
    cost = {name: max(mean(name, attack, False) - mean(name, attack, True) for attack in ATTACKS) for name in options.only}
    show(
        "Most that compression costs, points",
        ["strategy", "cost"],
        [[n, f"{c:.1f}"] for n, c in cost.items()],
        markdown=options.markdown,
    )
    save(options.json, rows)


if __name__ == "__main__":
    main()
