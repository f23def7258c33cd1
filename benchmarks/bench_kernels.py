"""The inner loops, one thread, no network: Top-k, seeded supports, sums of sparse messages, quantisers, index coding.

All contenders of a table run in one go, once per repetition and in random order; a figure is a ratio to a pass over memory
measured in the same repetition, or a time per entry, of CPU. `--dimension 100000000` for the large ones.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from harness import Row, add_output_options, progress, save, show, spread, verdict

from saddlebag.algorithms import Message
from saddlebag.compression import Draws, Purpose, Sparse, Stream, TopK, Vector, make_compressor, uniform_subset
from saddlebag.compression.kernels import plain
from saddlebag.compression.kernels.loader import Kernels, compiled
from saddlebag.compression.kernels.plain import Piece
from saddlebag.compression.kernels.select import largest
from saddlebag.proto.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Calls = Mapping[str, Callable[[], Any]]

FRACTIONS = (0.1, 0.01, 0.001)
GOALS = {("numpy", 0.01): 6.5, ("numba", 0.01): 3.0, ("numpy", 0.1): 12.0, ("numba", 0.1): 7.0}
MESSAGES = 16
RANK = 4
QUANTISERS: dict[str, dict[str, Any]] = {
    "block_int8": {},
    "block_int4": {},
    "nearest_int8": {},
    "dithering": {"levels": 7, "norm": "max", "block": 256},
    "natural_dithering": {"levels": 7},
    "natural": {},
    "ternary": {},
    "scaled_sign": {},
    "cast": {},
    "stochastic_bfloat16": {},
}
KERNELS: dict[str, Kernels] = {"numpy": plain} | ({"numba": fast} if (fast := compiled()) else {})


def times(calls: Calls, repetitions: int) -> dict[str, list[float]]:
    """CPU seconds of every call in every repetition, after one that does not count; all of them compute in this thread."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(repetitions + 1):
        for name in random.sample(list(calls), len(calls)):
            begin = time.thread_time()
            calls[name]()
            if repetition:
                found[name].append(time.thread_time() - begin)
    return found


def over(values: list[float], units: list[float]) -> list[float]:
    return [a / b for a, b in zip(values, units, strict=True)]


# -- the tables ----------------------------------------------------------------------------------------------------------


def top_k(x_D: Vector, repetitions: int, rows: list[Row]) -> tuple[list[list[str]], list[list[str]]]:
    """Passes over the vector by contender and share, and the goals."""
    lines, goals = [], []
    d, tensor_D = len(x_D), torch.from_numpy(x_D)
    for fraction in FRACTIONS:
        k = round(fraction * d)
        calls: dict[str, Callable[[], Any]] = {"pass": lambda: np.max(x_D)}
        calls |= {name: lambda each=each, k=k: largest(x_D, k, each) for name, each in KERNELS.items()}
        calls["torch.topk"] = lambda k=k: torch.topk(tensor_D.abs(), k, sorted=False)
        calls["np.argpartition"] = lambda k=k: np.argpartition(np.abs(x_D), d - k)[d - k :]
        found = times(calls, repetitions)
        passes = {name: over(found[name], found["pass"]) for name in calls}
        rows += [{"table": "top_k", "d": d, "fraction": fraction, "contender": name, "s": found[name]} for name in calls]
        lines.append([f"{100 * fraction:g} %", *(spread(passes[name]) if name in passes else "-" for name in TOP_K_NAMES)])
        for name in KERNELS:
            if goal := GOALS.get((name, fraction)):
                value = passes[name]
                goals.append(
                    [f"{name}, {100 * fraction:g} %: passes", spread(value), f"<= {goal}", verdict(value, goal, at_least=False)]
                )
        if fraction == 0.01:
            goal = 25.0 if d >= 100_000_000 else 10.0
            value = over(found["torch.topk"], found["numpy"])
            goals.append(["torch.topk : numpy, 1 %", spread(value, 1), f">= {goal:g}", verdict(value, goal, at_least=True)])
        progress(f"top_k {fraction:g} done")
    return lines, goals


TOP_K_NAMES = ("numpy", "numba", "torch.topk", "np.argpartition")


def hard_vectors(x_D: Vector) -> dict[str, Vector]:
    """Ties, zeros and constants, which leave a sample's threshold undecided."""
    sparse_D = np.where(np.random.default_rng(1).random(len(x_D), np.float32) < 0.005, x_D, np.float32(0))
    return {
        "constant": np.ones_like(x_D),
        "zeros": np.zeros_like(x_D),
        "99.5 % zeros": sparse_D,
        "41 levels": np.round(x_D * 5),
        "2 levels": np.sign(x_D) + (x_D > 2.33),
        "sorted": np.sort(x_D),
        "layers": x_D * np.repeat(np.float32(10.0) ** np.arange(-2, 2, dtype=np.float32), -(-len(x_D) // 4))[: len(x_D)],
    }


def hard_top_k(x_D: Vector, repetitions: int, rows: list[Row]) -> tuple[list[list[str]], list[list[str]]]:
    """Top 1 % of vectors with ties: times relative to torch.topk."""
    lines, worst = [], 0.0
    for kind, y_D in hard_vectors(x_D).items():
        k, tensor_D = len(y_D) // 100, torch.from_numpy(y_D)
        calls: dict[str, Callable[[], Any]] = {
            name: lambda each=each, y_D=y_D, k=k: largest(y_D, k, each) for name, each in KERNELS.items()
        }
        calls["torch.topk"] = lambda tensor_D=tensor_D, k=k: torch.topk(tensor_D.abs(), k, sorted=False)
        found = times(calls, repetitions)
        ratios = {name: over(found[name], found["torch.topk"]) for name in KERNELS}
        worst = max(worst, *(statistics.median(each) for each in ratios.values()))
        lines.append([kind, *(spread(ratios[name]) if name in ratios else "-" for name in ("numpy", "numba"))])
        rows += [{"table": "hard", "d": len(y_D), "kind": kind, "contender": name, "s": found[name]} for name in calls]
    return lines, [
        ["time : torch.topk, worst of ties and zeros", f"{worst:.2f}", "<= 1.5", verdict([worst], 1.5, at_least=False)]
    ]


def supports(d: int, repetitions: int, rows: list[Row]) -> tuple[list[list[str]], list[list[str]]]:
    """Nanoseconds for each coordinate of a seeded support of 1 %."""
    k, generator = d // 100, np.random.default_rng(0)

    def stream() -> Stream:
        return Stream(1, Purpose.SUPPORT, 2, 3)

    calls: dict[str, Callable[[], Any]] = {
        f"strata, {name}": lambda each=each: each.strata(stream(), d, k) for name, each in KERNELS.items()
    }
    calls |= {
        f"strata of two lengths, {name}": lambda each=each: each.strata(stream(), d, k - 7) for name, each in KERNELS.items()
    }
    calls["uniform subset"] = lambda: uniform_subset(stream(), d, k)
    calls["Generator.choice, sorted"] = lambda: np.sort(generator.choice(d, k, replace=False, shuffle=False))
    calls["torch.randperm(d)[:k]"] = lambda: torch.randperm(d)[:k]
    found = times(calls, repetitions)
    ns = {name: [value / k * 1e9 for value in values] for name, values in found.items()}
    rows += [{"table": "supports", "d": d, "contender": name, "s": values} for name, values in found.items()]
    goals = []
    for name, goal in (("strata, numpy", 6.0), ("strata, numba", 1.0)):
        value = ns.get(name, [])
        goals.append([f"{name}: ns for each coordinate", spread(value), f"<= {goal:g}", verdict(value, goal, at_least=False)])
    return [[name, spread(values)] for name, values in ns.items()], goals


def sums(d: int, repetitions: int, rows: list[Row]) -> tuple[list[list[str]], list[list[str]]]:
    """The mean of 16 messages of 1 %: passes that write the float64 sum, and the float32 vector."""
    rng, k = np.random.default_rng(0), d // 100
    spaced_K = np.arange(k) * 100
    pieces = [Piece(0, spaced_K + rng.integers(0, 100, k), rng.standard_normal(k, np.float32)) for _ in range(MESSAGES)]
    out_D, single_D, torch_D = np.zeros(d), np.zeros(d, np.float32), torch.zeros(d)
    tensors = [(torch.from_numpy(index_K), torch.from_numpy(value_K)) for _, index_K, value_K in pieces]

    def one_by_one() -> None:
        out_D.fill(0.0)
        for _, index_K, value_K in pieces:
            out_D[index_K] += value_K
        np.divide(out_D, MESSAGES, out=out_D)

    def with_torch() -> None:
        torch_D.zero_()
        for index_K, value_K in tensors:
            torch_D.index_add_(0, index_K, value_K)
        torch_D.div_(MESSAGES)

    calls: dict[str, Callable[[], Any]] = {"write64": lambda: out_D.fill(0.0), "write32": lambda: single_D.fill(0.0)}
    calls |= {
        name: lambda each=each: each.add_sparse(out_D, pieces, fresh=True, divisor=MESSAGES) for name, each in KERNELS.items()
    }
    calls |= {"one message after another": one_by_one, "torch index_add_ (float32)": with_torch}
    found = times(calls, repetitions)
    rows += [{"table": "sums", "d": d, "contender": name, "s": values} for name, values in found.items()]
    names = [*KERNELS, "one message after another", "torch index_add_ (float32)"]
    lines = [[name, *(spread(over(found[name], found[unit])) for unit in ("write64", "write32"))] for name in names]
    goals = []
    for name, goal in (("numpy", 11.0), ("numba", 3.5)):
        value = over(found[name], found["write64"]) if name in found else []
        goals.append([f"{name}: write passes over the sum", spread(value), f"<= {goal}", verdict(value, goal, at_least=False)])
    return lines, goals


def quantisers(x_D: Vector, repetitions: int, rows: list[Row]) -> tuple[list[list[str]], list[list[str]]]:
    """Million values a second, to encode (not yet coded as bytes) and to add to a float64 vector."""
    out_D, draws, lines, goals = np.zeros(len(x_D)), Draws(0, 0, 0), [], []
    calls: dict[str, Callable[[], Any]] = {}
    for name, parameters in QUANTISERS.items():
        compressor = make_compressor(name, **parameters)
        payload = compressor.encode(x_D, draws)
        calls[name] = lambda compressor=compressor: compressor.encode(x_D, draws)
        calls[f"{name} add"] = lambda payload=payload: type(payload)(**vars_of(payload)).add_to(out_D)
    found = times(calls, repetitions)
    for name in QUANTISERS:
        rate = {key: [len(x_D) / 1e6 / value for value in found[key]] for key in (name, f"{name} add")}
        lines.append([name, *(spread(values, 0) for values in rate.values())])
        goals.append([f"{name}: M values/s", spread(rate[name], 0), ">= 250", verdict(rate[name], 250.0, at_least=True)])
    rows += [{"table": "quantisers", "d": len(x_D), "contender": name, "s": values} for name, values in found.items()]
    return lines, goals


def vars_of(payload: Any) -> dict[str, Any]:
    """The fields of a payload without what it has cached."""
    return {name: getattr(payload, name) for name in payload.__dataclass_fields__}


def messages(x_D: Vector, repetitions: int, rows: list[Row]) -> tuple[list[list[str]], list[list[str]]]:
    """Passes over the vector to code and decode a Top-k message, and PowerSGD's arithmetic beside Top-k's."""
    d, draws = len(x_D), Draws(0, 0, 0)
    payload = TopK(fraction=0.01).encode(x_D, draws)
    assert isinstance(payload, Sparse)
    data = b"".join(encode(Message((payload,))))
    calls: dict[str, Callable[[], Any]] = {
        "pass": lambda: np.max(x_D),
        "Top-k 1 %, compress": lambda: TopK(fraction=0.01).encode(x_D, draws),
        "Top-k 1 %, to bytes": lambda: b"".join(encode(Message((payload,)))),
        "Top-k 1 %, from bytes": lambda: decode(data, (d,), draws),
        f"PowerSGD hook, rank {RANK}: compress and decompress": power_sgd(x_D),
    }
    found = times(calls, repetitions)
    rows += [{"table": "messages", "d": d, "contender": name, "s": values} for name, values in found.items()]
    lines = [[name, spread(over(found[name], found["pass"]))] for name in calls if name != "pass"]
    both = [a + b for a, b in zip(found["Top-k 1 %, to bytes"], found["Top-k 1 %, from bytes"], strict=True)]
    value = over(both, found["pass"])
    return lines, [["code and decode a message: passes", spread(value), "<= 2", verdict(value, 2.0, at_least=False)]]


def power_sgd(x_D: Vector) -> Callable[[], Any]:
    """What PyTorch's hook computes for one matrix of these values, without its two all-reduces."""
    from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import _orthogonalize

    side = int(len(x_D) ** 0.5)
    m_RC = torch.from_numpy(x_D[: side * side]).view(1, side, side)
    q_CK, p_RK, out_RC = torch.randn(1, side, RANK), torch.empty(1, side, RANK), torch.empty_like(m_RC)

    def step() -> None:
        torch.bmm(m_RC, q_CK, out=p_RK)
        _orthogonalize(p_RK)
        torch.bmm(m_RC.transpose(1, 2), p_RK, out=q_CK)
        torch.bmm(p_RK, q_CK.transpose(1, 2), out=out_RC)

    return step


# -- all of them ---------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimension", type=int, default=10_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    add_output_options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    d, rows = args.dimension, []
    x_D = np.random.default_rng(0).standard_normal(d, np.float32)
    tables = (
        ("Exact Top-k: read passes over the vector", ("k", *TOP_K_NAMES), lambda: top_k(x_D, args.repetitions, rows)),
        (
            "Top 1 % of hard vectors: time : torch.topk",
            ("vector", "numpy", "numba"),
            lambda: hard_top_k(x_D, args.repetitions, rows),
        ),
        ("Support of 1 %: ns for each coordinate", ("contender", "ns"), lambda: supports(d, args.repetitions, rows)),
        (
            "Mean of 16 messages of 1 %: write passes",
            ("contender", "float64", "float32"),
            lambda: sums(d, args.repetitions, rows),
        ),
        ("Quantisers: M values/s", ("compressor", "encode", "add"), lambda: quantisers(x_D, args.repetitions, rows)),
        ("A message: read passes over the vector", ("step", "passes"), lambda: messages(x_D, args.repetitions, rows)),
    )
    for title, header, table in tables:
        lines, goals = table()
        show(f"{title}, d = {d / 1e6:g}M: median (range)", header, lines, markdown=args.markdown)
        show("Goals", ("quantity", "median (range)", "goal", ""), goals, markdown=args.markdown)
    save(args.json, rows)


if __name__ == "__main__":
    main()
