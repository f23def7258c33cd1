"""What a step of narrow methods allocates beside its states, in bytes a coordinate, counted: the table of docs/methods.md."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.base import Message
from saddlebag.algorithms.optimizers.inner import Inner
from saddlebag.algorithms.optimizers.narrow_local import NarrowLocalRounds
from saddlebag.algorithms.optimizers.narrow_optimizer import NarrowOptimizer
from saddlebag.algorithms.optimizers.rules import Adam
from saddlebag.algorithms.simulate import form_means
from saddlebag.algorithms.state import pack
from saddlebag.compression import Draws, Grid, make_compressor

if TYPE_CHECKING:
    from collections.abc import Callable

D = (1 << 20) - 1  # below what compiled kernels take
TOP = make_compressor("compose", sparsifier={"name": "top_k", "fraction": 0.01}, values={"name": "nearest_int8"})
GRID = Grid(step=0.5)
WALK = Inner(steps=2, rule=Adam(), step_size=0.01, clip_norm=1.0)
SLACK = 0.45  # bytes a coordinate: blocks and samples, which at this D are 400 kB

METHODS: dict[str, Callable[..., Any]] = {
    "optimizer": lambda **keys: NarrowOptimizer(rule=Adam(weight_decay=0.01), step_size=0.01, clip_norm=1.0, **keys),
    "local": lambda **keys: NarrowLocalRounds(inner=WALK, step_size=0.7, momentum=0.6, decay=0.9, **keys),
}
STATES = {"optimizer": (14, 4, 4), "local": (10, 12, 4)}  # replica, worker, server
STEPS = {  # worker's step, server's step, replay; the payloads they make or read are counted where they are made
    ("optimizer", "top_k"): (0.7, 0.7, 0),
    ("optimizer", "grid"): (1, 1, 0),
    ("local", "top_k"): (6.7, 0.7, 0),
    ("local", "grid"): (7, 1, 0),
}


def peak_of(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a call returns, and the most bytes a coordinate that it held at once."""
    tracemalloc.start()
    result = call(*arguments)
    most = tracemalloc.get_traced_memory()[1] / D
    tracemalloc.stop()
    return result, most


def nbytes(state: Any) -> float:
    return sum(array.nbytes for array in pack(state).values() if array.ndim) / D


@pytest.mark.parametrize(("kind", "code"), STEPS)
def test_a_step_holds_no_vector_that_the_table_does_not_list(kind: str, code: str) -> None:
    both = TOP if code == "top_k" else GRID
    method = METHODS[kind](up=both, down=both)
    replica = method.init_replica(np.random.default_rng(0).standard_normal(D))
    own, server = method.init_worker(replica), method.init_server(replica)
    assert (nbytes(replica), nbytes(own), nbytes(server)) == STATES[kind]
    value_D = np.random.default_rng(1).standard_normal(D).astype(np.float32)
    for round_ in range(2):  # the first imports what it needs
        draws = Draws(0, round_)
        (own, up), working = peak_of(method.worker_step, replica, own, lambda z_D, at: value_D, draws.of(0))
        means = form_means((D,), iter([up]), 1, np.float32)
        (server, down), serving = peak_of(method.server_step, replica, server, means, draws)
        replica, replaying = peak_of(method.replay, replica, down, draws)
    listed = STEPS[kind, code]
    for what, counted, most in zip(("worker", "server", "replay"), (working, serving, replaying), listed, strict=True):
        assert counted <= most + SLACK, f"{what}: {counted:.2f} bytes a coordinate, listed are {most}"


@pytest.mark.parametrize("code", ["top_k", "grid"])
def test_sums_are_of_four_bytes_and_take_payloads_block_by_block(code: str) -> None:
    compressor = TOP if code == "top_k" else GRID
    ups = [compressor.encode(np.random.default_rng(m).standard_normal(D).astype(np.float32), Draws(0, 0, m)) for m in range(2)]

    def form() -> Any:
        return form_means((D,), iter([Message((up,)) for up in ups]), 2, np.float32)

    form()
    means, most = peak_of(form)
    assert means[0].value.dtype == np.float32
    assert most <= 4 + SLACK
