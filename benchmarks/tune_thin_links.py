"""Which numbers each family of `bench_thin_links.py` is run with: grids of one size, a point in one process without a network.

    python benchmarks/tune_thin_links.py --text input.txt.xz                   # all families
    python benchmarks/tune_thin_links.py --text input.txt.xz --only sparse_loco

The programs' steps are made in turn, on the batches that they have there. torchft's DiLoCo is ours with nothing compressed and
the same outer numbers, its LocalSGD the plain average. hivemind is not here: `bench_thin_links.py --only hivemind` runs its.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import contender_loop as loop
import torch
from harness import Row, add_output_options, save
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import saddlebag as sb
from saddlebag.algorithms.problems.linked import LinkedPrograms
from saddlebag.compression import Draws, Sum, Tensor
from saddlebag.proto.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GRID = {"name": "grid", "step": 0.5, "block": 128}
FINE = {**GRID, "step": 0.25}
FULL = {"name": "identity"}
OUTER = ((1.0, 0.0), (0.7, 0.6), (0.7, 0.9))
PERIODS, RATES, MUON = (8, 32), (8e-3,), (0.02,)


def grids() -> dict[str, list[Row]]:
    """Six points for each family."""
    sides = [(period, rate) for period in PERIODS for rate in RATES]
    inside = [(period, rate) for period in PERIODS for rate in MUON]

    def outer(name: str, way: Row) -> list[Row]:
        return [point(p, r, name, way, step_size=a, momentum=mu) for p, r in sides for a, mu in OUTER]

    def muon(name: str, way: Row) -> list[Row]:
        return [point(p, RATES[0], name, way, r, step_size=a, momentum=mu) for p, r in inside for a, mu in OUTER]

    return {
        "torchft DiLoCo": outer("diloco", FULL),
        "torchft DiLoCo, Muon": muon("diloco", FULL),
        "diloco": outer("diloco", GRID),
        "muloco": muon("muloco", GRID),
        "sparse_loco": [
            {"period": p, "rate": r, "muon": None, "method": {"name": "sparse_loco", "step_size": a, "decay": decay}}
            for p, r in sides
            for a, decay in ((1.0, 0.95), (0.7, 0.95), (1.0, 1.0))
        ],
        "local_average": [point(p, r, "local_average", way) for p, r in sides for way in (GRID, FINE, FULL)],
    }


def point(period: int, rate: float, name: str, way: Row, muon: float | None = None, **numbers: float) -> Row:
    return {"period": period, "rate": rate, "muon": muon, "method": {"name": name, "up": way, "down": way, **numbers}}


class Programs:
    """All programs of a run, whose steps are made in turn."""

    def __init__(self, way: Row, given: argparse.Namespace) -> None:
        for name, value in given.model.items():
            setattr(loop.gpt, name, value)
        self.data, self.held_out, self.letters = loop.gpt.read(given.text)
        self.way, self.steps = way, given.steps
        self.models = [self._model(given.seed) for _ in range(given.workers)]
        job: Any = argparse.Namespace(way=way, rate=way["rate"])
        self.found = [loop.optimizers(model, job) for model in self.models]
        self.chance = [torch.Generator().manual_seed(1000 * given.seed + rank) for rank in range(given.workers)]

    def _model(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model: nn.Module = loop.gpt.Model(self.letters)
        return model

    def moved(self, rank: int, z_D: Any, first: int) -> Any:
        """What this program's next steps change, from z on: z minus where they lead."""
        model = self.models[rank]
        vector_to_parameters(torch.from_numpy(z_D).float(), model.parameters())
        begin = parameters_to_vector(model.parameters()).detach().clone()
        for number in range(first, min(first + self.way["period"], self.steps)):
            loop.scheduled(self.found[rank], number, self.steps)
            model.zero_grad()
            loop.gpt.loss_of(model, *loop.gpt.batch(self.data, self.chance[rank])).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for each in self.found[rank]:
                each.step()
        return (begin - parameters_to_vector(model.parameters()).detach()).double().numpy()

    def loss(self, z_D: Any) -> float:
        """Held out, at a point."""
        vector_to_parameters(torch.from_numpy(z_D).float(), self.models[0].parameters())
        judged = loop.gpt.batch(self.held_out, torch.Generator().manual_seed(0), loop.JUDGED)
        with torch.no_grad():
            return float(loop.gpt.loss_of(self.models[0], *judged))


def trained(way: Row, given: argparse.Namespace) -> float:
    """The loss at the end."""
    programs, count = Programs(way, given), given.workers
    tensors = [Tensor(name, tuple(value.shape)) for name, value in programs.models[0].named_parameters()]
    origin_D = parameters_to_vector(programs.models[0].parameters()).detach().double().numpy()
    problem = LinkedPrograms(origin_D=origin_D, tensors=tensors, num_workers=count)
    numbers = dict(way["method"])
    method: Any = sb.make_method(numbers.pop("name"), problem, **numbers)
    replica = method.init_replica(problem.start())
    server, states = method.init_server(replica), [method.init_worker(replica) for _ in range(count)]
    sizes = method.uplink_sizes(replica, Draws(0, 0, 0))
    for number, first in enumerate(range(0, given.steps, way["period"])):
        totals = [Sum(size) for size in sizes]
        for rank in range(count):
            change_D, draws = programs.moved(rank, replica.z_D, first), Draws(0, number, rank)
            states[rank], message = method.worker_step(replica, states[rank], lambda z_D, draws, c=change_D: c, draws)
            for total, part in zip(totals, decode(b"".join(encode(message)), sizes, draws).parts, strict=True):
                total.add(part)
        draws = Draws(0, number, 0)
        server, message = method.server_step(replica, server, tuple(total.mean(count) for total in totals), draws)
        replica = method.replay(replica, message, draws)
    return programs.loss(replica.z_D)


def points(given: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    for family, ways in grids().items():
        if not given.only or family in given.only:
            yield from ((family, way) for way in (ways[:1] if given.smoke else ways))


def best(rows: Sequence[Row]) -> Iterator[Row]:
    """Of each family and period."""
    for key in dict.fromkeys((row["family"], row["way"]["period"]) for row in rows):
        yield min((row for row in rows if (row["family"], row["way"]["period"]) == key), key=lambda row: float(row["loss"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(grids()))
    parser.add_argument("--smoke", action="store_true", help="tiny: does it run at all")
    add_output_options(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.model = loop.MODEL
    with tempfile.TemporaryDirectory() as folder:
        if given.smoke:
            given.text, given.steps, given.model = Path(folder) / "text", 16, loop.TINY
            given.text.write_text(loop.TEXT)
        elif given.text is None:
            parser.error("give --text")
        rows: list[Row] = []
        for family, way in points(given):
            rows.append({"family": family, "way": way, "loss": trained(way, given)})
            print(f"{family:20} {rows[-1]['loss']:.4f}  {json.dumps(way)}", flush=True)
            save(given.json, rows)
    for row in best(rows):
        print(f"best of {row['family']}, H = {row['way']['period']}: {row['loss']:.4f} with {json.dumps(row['way'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
