"""Resident memory of the server and the workers over the rounds of the a9a recipe, run as `saddlebag run` runs it.

Without the data file a random one of the same shape takes its place.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from harness import ONE_THREAD, Row, add_output_options, memory, progress, save, show, verdict

from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.recipe.recipe import load_recipe

if TYPE_CHECKING:
    from saddlebag.algorithms import Record

ROOT = Path(__file__).resolve().parent.parent
A9A = ROOT.parent / "shared/data/a9a/a9a.xz"
MAY_GROW = 2 << 20  # bytes between the last two marks: noise of the allocator


def random_data(path: Path, rows: int = 32561, features: int = 123, present: int = 14) -> Path:
    """A LIBSVM file of a9a's shape."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for label in rng.choice((-1, 1), rows):
            columns = np.sort(rng.choice(features, present, replace=False)) + 1
            file.write(f"{label:+d} " + " ".join(f"{column}:1" for column in columns) + "\n")
    return path


def follow(data: Path, workers: int, marks: tuple[int, ...], out: Path) -> list[Row]:
    """Run the recipe; the memory of every process at these rounds."""
    sets = [f'data.source="{data}"', f"workers={workers}", f"stop.max_rounds={marks[-1] + 1}", "stop.merit=1e-300"]
    recipe = load_recipe(ROOT / "launch/recipes/a9a.toml", sets).jobs()[0]
    pids: dict[str, int] = {}
    rows: list[Row] = []

    def observe(record: Record) -> None:
        if record.round >= marks[min(len(rows), len(marks) - 1)] and len(rows) < len(marks):
            rows.append({"round": record.round, **{name: memory(pid)["VmRSS"] for name, pid in pids.items()}})
            progress(f"round {record.round}: {sum(rows[-1].values()) / 1e6:.0f} MB in all")

    result = run_grpc(recipe, out, observe=observe, started=pids.update)
    if len(rows) < len(marks):
        raise SystemExit(f"the run ended early, after {result['rounds']} rounds: {result['reason']}")
    progress(f"{result['rounds'] / result['elapsed_s']:.0f} rounds/s")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2000, help="memory is reported at a tenth, at half and at the end")
    parser.add_argument("--data", type=Path, help="a LIBSVM file; a9a next to the repository, or else a random one")
    add_output_options(parser)
    args = parser.parse_args()
    marks = (args.rounds // 10, args.rounds // 2, args.rounds)
    os.environ.update(ONE_THREAD)
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or (A9A if A9A.is_file() else random_data(Path(folder, "random")))
        rows = follow(data.resolve(), args.workers, marks, Path(folder, "run"))
    names = [name for name in rows[0] if name != "round"]
    lines = []
    for name in names:
        sizes = [row[name] for row in rows]
        grown = sizes[-1] - sizes[-2]
        lines.append(
            [name, *(f"{size / 1e6:.1f}" for size in sizes), f"{grown / 1e6:+.1f}", verdict([grown], MAY_GROW, at_least=False)]
        )
    header = ("process", *(f"MB at round {row['round']}" for row in rows), "last two", f"<= {MAY_GROW / 1e6:.1f} MB")
    show(f"Resident memory, {data.name}, {args.workers} workers", header, lines, markdown=args.markdown)
    save(args.json, rows)


if __name__ == "__main__":
    main()
