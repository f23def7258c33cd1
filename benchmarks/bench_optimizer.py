"""What a replica's update costs: nanoseconds a coordinate of each rule, beside torch's AdamW and the bare traffic of memory.

    python benchmarks/bench_optimizer.py [--coordinates 4000000] [--repeats 7]

One thread, float64 but for what says otherwise. "three fresh copies" is what any update that leaves its arguments as they are
must do at least for AdamW: fill z and both moving means anew; torch, and narrow states, write in place. "touched memory" is the
compiled update (extra `fast`) into vectors that have been written before. Contenders alternate; shown are medians of CPU time,
and our AdamW's as multiples of torch's fused one. Then the halves of a whole round of `compressed_adamw` with Top-k of 1 % in
8 bits both ways, and the peak of resident memory. About 20 seconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from types import SimpleNamespace
from typing import Any

import harness
import numpy as np

from saddlebag.algorithms import METHODS, form_means
from saddlebag.algorithms.optimizers.narrow import narrow_init, update_in_place
from saddlebag.algorithms.optimizers.rules import RULES
from saddlebag.compression import SERVER, Dense, Draws, Slices, make_compressor


def timed(contenders: dict[str, Any], repeats: int, d: int) -> dict[str, float]:
    """Median nanoseconds a coordinate, contenders in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats + 1):
        for name, call in contenders.items():
            started = time.process_time()
            call()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(each[1:]) / d * 1e9 for name, each in seconds.items()}


def updates(d: int) -> dict[str, Any]:
    """One update by each rule, by torch, and three copies."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    value_D, contenders = rng.standard_normal(d), {}
    for name, kind in RULES.items():
        rule = kind(weight_decay=0.01)
        replica = rule.update(rule.init(rng.standard_normal(d)), value_D, 1e-3)
        contenders[name] = lambda rule=rule, replica=replica: rule.update(replica, value_D, 1e-3)
    vectors = [rng.standard_normal(d) for _ in range(3)]
    if importlib.util.find_spec("numba") is not None:
        contenders["adamw, touched memory"] = into_touched(d, value_D)
    plain, narrow_D = RULES["adamw"](weight_decay=0.01), value_D.astype(np.float32)
    state, rest_D = narrow_init(plain, rng.standard_normal(d))
    slices = Slices(Dense(narrow_D))
    contenders["adamw, narrow"] = lambda: update_in_place(plain, state, rest_D, slices, 1e-3)
    contenders["three fresh copies"] = lambda: [vector.copy() for vector in vectors]
    weights = torch.from_numpy(rng.standard_normal(d)).requires_grad_()
    weights.grad = torch.from_numpy(value_D)
    for label, keys in (("torch AdamW, foreach", {"foreach": True}), ("torch AdamW, fused", {"fused": True})):
        contenders[label] = torch.optim.AdamW([weights], lr=1e-3, **keys).step
    short = torch.from_numpy(rng.standard_normal(d).astype(np.float32)).requires_grad_()
    short.grad = torch.from_numpy(narrow_D)
    contenders["torch AdamW, fused, float32"] = torch.optim.AdamW([short], lr=1e-3, fused=True).step
    return contenders


def into_touched(d: int, value_D: Any) -> Any:
    """The compiled update without what the first writes to fresh memory cost."""
    from saddlebag.algorithms.optimizers import compiled_adam

    before, after = ([np.ones(d) for _ in range(3)] for _ in range(2))
    rates: Any = ((0.9, 0.999), 1e-8, (1.9, 1.4), 1e-3, 0.99999)
    return lambda: compiled_adam.advance(*before, value_D, np.empty(0, bool), *after, *rates)


def halves(d: int, memory: str, rounds: int = 4) -> dict[str, float]:
    """Nanoseconds a coordinate of each half of a round, in its last round."""
    code = {"sparsifier": {"name": "top_k", "fraction": 0.01}, "values": {"name": "nearest_int8"}}
    both = make_compressor("compose", **code)
    problem: Any = SimpleNamespace(name="any", prox=lambda v_D, step_size: v_D, tensors=())
    method: Any = METHODS["compressed_adamw"](problem, up=both, down=both, step_size=1e-3, memory=memory)
    value_D = np.random.default_rng(1).standard_normal(d)
    replica = method.init_replica(np.zeros(d))
    own, server, found = method.init_worker(replica), method.init_server(replica), {}
    for round_ in range(rounds):
        draws, marks = Draws(0, round_, SERVER), [time.process_time()]
        own, up = method.worker_step(replica, own, lambda z_D, draws: value_D, draws.of(0))
        marks.append(time.process_time())
        means = form_means((d,), iter([up]), 1)
        server, down = method.server_step(replica, server, means, draws)
        marks.append(time.process_time())
        replica = method.replay(replica, down, draws)
        marks.append(time.process_time())
        spans = np.diff(marks) / d * 1e9
        found = dict(zip(("worker", "server", "replay"), spans.tolist(), strict=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coordinates", type=int, default=4_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    d = args.coordinates
    for memory in ("feedback", "innovations"):
        spans = ", ".join(f"{name} {value:.1f}" for name, value in halves(d, memory).items())
        print(f"halves of a round with {memory}, ns/coordinate: {spans}")
    peak = harness.memory()["VmHWM"]
    print(f"peak resident memory of worker, server and replica in one process: {peak / d:.0f} bytes a coordinate")
    found = timed(updates(d), args.repeats, d)
    for name, value in found.items():
        fused = found["torch AdamW, fused, float32" if name == "adamw, narrow" else "torch AdamW, fused"]
        ratio = f", {value / fused:.2f} times torch's" if name.startswith("adamw") else ""
        print(f"{name:28s} {value:6.1f} ns/coordinate{ratio}")


if __name__ == "__main__":
    main()
