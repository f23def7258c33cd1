"""Count-sketch beside Rand-k and Top-k of as many bits: the error of a mean of workers, and the time. One thread, no network.

Vectors are skewed (log-normal sizes) and the workers differ. A sketch of c cells costs what c float32 values cost; its hashes
are given, which no real run has for nothing. This is why there is no sketch among the compressors.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import add_output_options, save, show

from saddlebag.compression import Draws, Vector, make_compressor

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS, ROWS = 8, 5


class Sketch:
    """`rows` hashes of [0, d) into `cells` signed cells each; Charikar, Chen, Farach-Colton 2002."""

    def __init__(self, d: int, rows: int, cells: int) -> None:
        rng = np.random.default_rng(rows)
        self.cells = cells
        self.hashes = [(rng.integers(0, cells, d), rng.integers(0, 2, d) * 2.0 - 1.0) for _ in range(rows)]

    def of(self, x_D: Vector) -> list[Any]:
        return [np.bincount(cell_D, weights=x_D * sign_D, minlength=self.cells) for cell_D, sign_D in self.hashes]

    def estimate(self, sums: list[Any]) -> Vector:
        """The median over the rows; with one row unbiased."""
        estimates = [sign_D * sum_C[cell_D] for (cell_D, sign_D), sum_C in zip(self.hashes, sums, strict=True)]
        return np.median(estimates, axis=0) if len(estimates) > 1 else estimates[0]


def sketched(x_MD: Vector, rows: int, cells: int, keep: int | None) -> Callable[[], Vector]:
    """The mean of the workers' sketches, read out; of it the `keep` largest, as FetchSGD does."""
    d = x_MD.shape[1]
    sketch = Sketch(d, rows, cells)

    def mean() -> Vector:
        sums = [np.mean(row, axis=0) for row in zip(*(sketch.of(x_D) for x_D in x_MD), strict=True)]
        estimate_D = sketch.estimate(sums)
        if keep is not None:
            estimate_D[np.argpartition(np.abs(estimate_D), d - keep)[: d - keep]] = 0.0
        return estimate_D

    return mean


def compressed(x_MD: Vector, name: str, **params: Any) -> Callable[[], Vector]:
    compressor = make_compressor(name, **params)
    return lambda: np.mean([compressor.encode(x_D, Draws(0, 0, m)).dense() for m, x_D in enumerate(x_MD)], axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimension", type=int, default=1_000_000)
    add_output_options(parser)
    args = parser.parse_args()
    d, rng = args.dimension, np.random.default_rng(0)
    base_D = rng.standard_normal(d) * np.exp(1.5 * rng.standard_normal(d))
    x_MD = base_D + 0.5 * np.abs(base_D).mean() * rng.standard_normal((WORKERS, d))
    mean_D = x_MD.mean(axis=0)
    rows = []
    for fraction in (0.01, 0.1):
        cells = round(fraction * d)  # 32 bits each: the budget of a worker
        top, coded = round(cells * 32 / 40), round(cells * 32 / 16.4)  # an entry of Top-k with float32 and with 8-bit values
        contenders = {
            "sketch, 1 row": sketched(x_MD, 1, cells, None),
            "rand_k, common support": compressed(x_MD, "rand_k", k=cells, support="common"),
            "rand_k": compressed(x_MD, "rand_k", k=cells),
            f"sketch, {ROWS} rows, largest {cells // 20}": sketched(x_MD, ROWS, cells // ROWS, cells // 20),
            "top_k": compressed(x_MD, "top_k", k=top),
            "top_k, 8-bit values": compressed(
                x_MD, "compose", sparsifier={"name": "top_k", "k": coded}, values={"name": "block_int8"}
            ),
        }
        for name, contender in contenders.items():
            start = time.process_time()
            error_D = contender() - mean_D
            seconds = time.process_time() - start
            share = float(error_D @ error_D / (mean_D @ mean_D))
            rows.append({"bits/d": 32 * fraction, "compressor": name, "error": share, "ns": seconds / WORKERS / d * 1e9})
    show(
        f"Squared error of the mean of {WORKERS} workers relative to its square, d = {d:,}",
        ["compressor", "bits/d", "error", "ns per coordinate and worker"],
        [[r["compressor"], f"{r['bits/d']:.2f}", f"{r['error']:.3g}", f"{r['ns']:.1f}"] for r in rows],
        markdown=args.markdown,
    )
    save(args.json, rows)


if __name__ == "__main__":
    main()
