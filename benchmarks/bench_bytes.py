"""Bytes on the wire against the entropy: index sets, quantisers' levels, whole messages, headers.

On uniform sets and Gaussian values, and on the gradient of a small transformer that is trained for this (`gradient.py`) on
the text at `--text`, else on a synthetic one; `--save` keeps the gradient, `--from` takes a kept one.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import Row, add_output_options, progress, save, show, verdict

from saddlebag.algorithms import Message
from saddlebag.compression import BlockInt4, BlockInt8, Cast, Dithering, Draws, Identity, Levels, Natural, Sparse, Ternary, TopK
from saddlebag.proto.codec import decode, encode
from saddlebag.proto.coding.indices import RICE, decode_index, encode_index
from saddlebag.proto.coding.levels import encode_levels
from saddlebag.proto.frames import frames_of
from saddlebag.proto.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression import Compressor, Payload, Vector

DRAWS = Draws(1, 2, 3)
CODINGS = {0: "raw", 1: "bitmap", 2: "zstd of gaps", 3: "zstd of bitmap"}
UNIFORM, REAL = "uniform", "transformer"


def bound_bits(dimension: int, count: int) -> float:
    """log2 C(d, k), the entropy of a uniformly distributed set."""
    return (math.lgamma(dimension + 1) - math.lgamma(count + 1) - math.lgamma(dimension - count + 1)) / math.log(2)


def entropy_bits(level_D: Any) -> float:
    """D times the empirical entropy of a level."""
    counts = np.unique(level_D, return_counts=True)[1]
    return float(-(counts * np.log2(counts / len(level_D))).sum())


def size_of(payload: Payload) -> int:
    return sum(map(len, encode(Message((payload,)))))


def in_passes(steps: list[Callable[[], Any]], x_D: Vector, repetitions: int) -> float:
    """The time of the steps in read passes over a float32 vector, each repetition against its own passes; median."""
    ratios = []
    for _ in range(repetitions):
        began = time.perf_counter()
        for _ in range(3):
            x_D.max()
        passed = time.perf_counter()
        for step in steps:
            step()
        ratios.append(3 * (time.perf_counter() - passed) / (passed - began))
    return statistics.median(ratios)


def index_row(source: str, x_D: Vector, fraction: float, goal: float, repetitions: int) -> Row:
    """The set of the k largest magnitudes; of independent values it is uniform."""
    index_K = TopK(fraction=fraction).encode(x_D, DRAWS).index_K
    d, k = len(x_D), len(index_K)
    data = encode_index(d, index_K)
    assert (decode_index(Reader(data), d, k) == index_K).all()
    steps = [lambda: encode_index(d, index_K), lambda: decode_index(Reader(data), d, k)]
    coding = CODINGS.get(data[0], f"Rice, {data[0] - RICE} low bits")
    return {
        "source": source,
        "d": d,
        "density": fraction,
        "coding": coding,
        "bits": 8 * len(data) / k,
        "bound": bound_bits(d, k) / k,
        "ratio": 8 * len(data) / bound_bits(d, k),
        "goal": goal,
        "passes": in_passes(steps, x_D, repetitions),
    }


def index_rows(gradient_D: Vector, dimensions: list[int], repetitions: int) -> list[Row]:
    rows = []
    for d in dimensions:
        x_D = np.random.default_rng(0).standard_normal(d).astype(np.float32)
        for fraction, goal in ((0.2, 1.03), (0.15, 1.03), (0.1, 1.015), (0.05, 1.03), (0.01, 1.015), (0.001, 1.015)):
            rows.append(index_row(UNIFORM, x_D, fraction, goal, repetitions))
            progress(f"index set, d = {d:,}, {fraction:.1%}")
    return rows + [index_row(REAL, gradient_D, fraction, 0.5, repetitions) for fraction in (0.1, 0.01, 0.001)]


def level_rows(gradient_D: Vector) -> list[Row]:
    """Quantisers on Gaussian values and on the gradient's first entries."""
    rows = []
    quantisers: list[tuple[Compressor, tuple[int, ...], float | None]] = [
        (Dithering(levels=7, norm="max", block=512), (10_000, 100_000, 1_000_000), 1.05),
        (BlockInt4(), (10_000, 1_000_000), 1.05),
        (BlockInt8(), (10_000, 1_000_000), None),
        (Ternary(), (10_000, 1_000_000), None),
        (Dithering(levels=100), (10_000, 1_000_000), None),
        (Natural(), (10_000, 1_000_000), None),
    ]
    for quantiser, counts, goal in quantisers:
        for count in counts:
            gaussian_D = np.random.default_rng(1).standard_normal(count).astype(np.float32)
            sources = {"Gauss": gaussian_D, REAL: gradient_D[np.linspace(0, len(gradient_D) - 1, count).astype(np.int64)]}
            rows += [level_row(source, quantiser, x_D, goal) for source, x_D in sources.items()]
        progress(f"levels of {quantiser}")
    return rows


def level_row(source: str, quantiser: Compressor, x_D: Vector, goal: float | None) -> Row:
    payload = quantiser.encode(x_D, DRAWS)
    assert (
        decode(b"".join(encode(Message((payload,)))), (len(x_D),), DRAWS).parts[0].dense().tobytes()
        == payload.dense().tobytes()
    )
    bits = 8 * size_of(payload)
    if isinstance(payload, Levels):
        entropy, coded = entropy_bits(payload.level_D), 8 * len(encode_levels(payload.level_D)[1])
    else:
        entropy, coded = entropy_bits(payload.dense()), bits
    return {
        "source": source,
        "quantiser": repr(quantiser),
        "d": len(x_D),
        "plain": quantiser.bits(len(x_D)) / len(x_D),
        "bits": bits / len(x_D),
        "entropy": entropy / len(x_D),
        "ratio": coded / entropy,
        "goal": goal,
    }


def small_row(texts: int = 400) -> Row:
    """Messages of 100 ternary levels with one scale, whose entropy is 1.27 bits a level."""
    rng, p = np.random.default_rng(2), np.array([0.17, 0.66, 0.17])
    payloads = [Levels(rng.choice(np.array([-1, 0, 1], np.int8), 100, p=p), np.ones(1, np.float32), 100) for _ in range(texts)]
    sizes, took_us = [], []
    for payload in payloads:
        began = time.perf_counter()
        data = b"".join(encode(Message((payload,))))
        decode(data, (100,), DRAWS)
        took_us.append(1e6 * (time.perf_counter() - began))
        sizes.append(len(data))
    ideal = 4 - 100 * float((p * np.log2(p)).sum()) / 8
    return {"bytes": statistics.mean(sizes), "ideal": ideal, "us": statistics.median(took_us)}


def message_rows(gradient_D: Vector, d: int) -> list[Row]:
    """Top-k of 1 % with values in several layouts: bits for each entry that is kept, all bytes counted."""
    rows = []
    x_D = np.random.default_rng(3).standard_normal(d).astype(np.float32)
    for source, vector_D in ((UNIFORM, x_D), (REAL, gradient_D)):
        kept = TopK(fraction=0.01).encode(vector_D, DRAWS)
        value_K = kept.value.value_D
        k = len(value_K)
        values: list[tuple[str, Payload, float | None]] = [
            ("float32", kept.value, None),
            ("bfloat16", Cast(dtype="bfloat16").encode(value_K, DRAWS), None),
            ("8 bits by blocks", BlockInt8().encode(value_K, DRAWS), 16.4),
            ("4 bits by blocks", BlockInt4().encode(value_K, DRAWS), None),
        ]
        for name, value, goal in values:
            message = Sparse(len(vector_D), kept.index_K, value)  # type: ignore[arg-type]
            bits = 8 * size_of(message) / k
            rows.append(
                {"source": source, "values": name, "bits": bits, "goal": goal, "saving": 32 * len(vector_D) / (bits * k)}
            )
    return rows


def header_rows() -> list[Row]:
    """What a message of one frame takes beyond its values and its index set."""
    x_D = np.random.default_rng(4).standard_normal(100_000).astype(np.float32)
    kept = TopK(fraction=0.01).encode(x_D, DRAWS)
    index_bytes = len(encode_index(len(x_D), kept.index_K))
    rows = []
    for name, payload, rest in (
        ("dense float32", Identity().encode(x_D, DRAWS), 4 * len(x_D)),
        ("sparse float32", kept, index_bytes + 4 * len(kept.index_K)),
    ):
        buffers = encode(Message((payload,)))
        frames = sum(map(len, frames_of(buffers, epoch=1, round_=10**6, sender=63)))
        rows.append({"message": name, "header": size_of(payload) - rest, "with frame": frames - rest, "goal": 40})
    return rows


def real_gradient(arguments: argparse.Namespace) -> Vector:
    from gradient import flat, make_gradient
    from safetensors.torch import load_file, save_file

    if arguments.source is not None:
        return flat(load_file(arguments.source))
    progress("training a small transformer")
    tensors = make_gradient(arguments.text, arguments.steps, show_progress=True)
    if arguments.save is not None:
        save_file(tensors, arguments.save)
    return flat(tensors)


def met(row: Row, key: str) -> str:
    goal = row["goal"]
    return "-" if goal is None else f"<= {goal:g}: {verdict([row[key]], goal, at_least=False)}"


def show_all(
    index: list[Row], messages: list[Row], levels: list[Row], small: Row, headers: list[Row], *, markdown: bool
) -> None:
    show(
        "Index sets",
        ["support", "d", "k/d", "coding", "bits an index", "log2 C(d, k) / k", "ratio", "goal", "encode + decode, passes"],
        [
            [
                *(r["source"], f"{r['d']:,}", f"{r['density']:.1%}", r["coding"], f"{r['bits']:.3f}", f"{r['bound']:.3f}"),
                *(f"{r['ratio']:.4f}", met(r, "ratio"), f"{r['passes']:.2f}"),
            ]
            for r in index
        ],
        markdown=markdown,
    )
    show(
        "Top-k of 1 %, whole message",
        ["support", "values", "bits an entry", "goal", "dense float32 : message"],
        [[r["source"], r["values"], f"{r['bits']:.2f}", met(r, "bits"), f"{r['saving']:.0f}"] for r in messages],
        markdown=markdown,
    )
    show(
        "Levels: bits a coordinate",
        ["values", "quantiser", "d", "plain", "whole message", "entropy of levels", "levels : entropy", "goal"],
        [
            [
                *(r["source"], r["quantiser"], f"{r['d']:,}", f"{r['plain']:.2f}", f"{r['bits']:.3f}", f"{r['entropy']:.3f}"),
                *(f"{r['ratio']:.3f}", met(r, "ratio")),
            ]
            for r in levels
        ],
        markdown=markdown,
    )
    show(
        "Small messages and headers, bytes",
        ["message", "bytes", "goal"],
        [["100 levels of 1.27 bits, one scale", f"{small['bytes']:.2f} (ideal {small['ideal']:.2f})", "<= 23"]]
        + [["the same, encode + decode, us", f"{small['us']:.0f}", "< 300"]]
        + [[f"header, {r['message']}", f"{r['header']}; with its frame {r['with frame']}", "< 40"] for r in headers],
        markdown=markdown,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, help="a text file, or a folder of .txt or .txt.xz files, to train on")
    parser.add_argument("--steps", type=int, default=50, help="steps of training before the gradient is taken")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the gradient as safetensors")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="take a kept gradient")
    parser.add_argument("--d", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--repetitions", type=int, default=5)
    add_output_options(parser)
    arguments = parser.parse_args()
    gradient_D = real_gradient(arguments)
    index = index_rows(gradient_D, arguments.d, arguments.repetitions)
    messages = message_rows(gradient_D, arguments.d[-1])
    levels, small, headers = level_rows(gradient_D), small_row(), header_rows()
    show_all(index, messages, levels, small, headers, markdown=arguments.markdown)
    save(arguments.json, [*index, *messages, *levels, small, *headers])


if __name__ == "__main__":
    main()
