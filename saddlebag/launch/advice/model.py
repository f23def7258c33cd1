"""Whether to compress: the predicted time of a round for each compressor, and a verdict. Pure; measured numbers come in.

A round of M workers, who all start together:

    compress         a worker makes its message
    up               latency, then the slowest of the worker's link, the server's link and the server's transport
    server           decodes M messages, forms their mean, compresses it
    down             as up, in the other direction
    apply            a worker decodes the downlink and adds it

The stages follow one another, as for the last byte of a message; a server that decodes while messages arrive hides
some of its own. The same compressor serves both directions.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.launch.advice.echo import Link

__all__ = ["GENTLE", "WORTH", "Costs", "Network", "Prediction", "Verdict", "judge", "predict"]

WORTH = 1.1
"""A compressed round that is not at least so many times faster than a dense one is not worth the error."""

GENTLE = 0.02
"""Relative error of a vector up to which about as many rounds may be expected as without compression."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Costs:
    """What a compressor costs on this machine at the model's size.

    Attributes:
        name, parameters: of the compressor, as a recipe has them.
        kind: "unbiased", "contractive", or both.
        message_bytes: encoded length.
        error: |C(x) - x| / |x|.
        compress_s: a vector becomes bytes.
        apply_s: bytes become a payload and are added to a vector.
        gather_s: the server's share for one of M messages: decoding it, and its part in forming the mean.
    """

    name: str
    parameters: Mapping[str, Any]
    kind: str
    message_bytes: float
    error: float
    compress_s: float
    apply_s: float
    gather_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """What messages pass through.

    Attributes:
        link: of each worker.
        workers: M.
        server_rate: of the server's own link, bits per second, shared by all workers; infinite for one that never limits.
        transport: the rates that gRPC reaches between two processes of this machine; the server's limit for all together.
    """

    link: Link
    workers: int
    server_rate: float
    transport: Link

    def up_s(self, message_bytes: float) -> float:
        """Seconds for one message of each worker to the server."""
        return self._seconds(message_bytes, self.link.up, self.transport.up)

    def down_s(self, message_bytes: float) -> float:
        """Seconds for one message from the server to each worker."""
        return self._seconds(message_bytes, self.link.down, self.transport.down)

    def _seconds(self, message_bytes: float, rate: float, transport: float) -> float:
        bits = 8.0 * message_bytes
        return self.link.latency_s + max(bits / rate, self.workers * bits / self.server_rate, self.workers * bits / transport)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """The stages of a round with one compressor, in seconds; see the module's text."""

    costs: Costs
    compute_s: float
    compress_s: float
    up_s: float
    server_s: float
    down_s: float
    apply_s: float

    @property
    def total_s(self) -> float:
        """The whole round."""
        return self.compute_s + self.compress_s + self.up_s + self.server_s + self.down_s + self.apply_s


def predict(costs: Costs, network: Network, compute_s: float = 0.0) -> Prediction:
    """The round of a compressor; `compute_s` is the worker's own work for its vector."""
    return Prediction(
        costs=costs,
        compute_s=compute_s,
        compress_s=costs.compress_s,
        up_s=network.up_s(costs.message_bytes),
        server_s=network.workers * costs.gather_s + costs.compress_s,
        down_s=network.down_s(costs.message_bytes),
        apply_s=costs.apply_s,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to do.

    Attributes:
        compress: whether any compressor makes a round clearly faster.
        ranked: the predictions, fastest round first, the dense one among them.
        speedups: dense time by time, in that order: how many times the rounds may grow before compression loses.
        gentle: the fastest one with an error of at most `GENTLE`, where it is clearly faster than dense.
        reason: one line for people.
    """

    compress: bool
    ranked: tuple[Prediction, ...]
    speedups: tuple[float, ...]
    gentle: Prediction | None
    reason: str


def judge(dense: Prediction, others: Sequence[Prediction]) -> Verdict:
    """Rank the predictions and say whether compression pays."""
    ranked = tuple(sorted([dense, *others], key=lambda prediction: prediction.total_s))
    speedups = tuple(dense.total_s / prediction.total_s for prediction in ranked)
    best = min(others, key=lambda prediction: prediction.total_s, default=dense)
    speedup = dense.total_s / best.total_s
    compress = best is not dense and speedup >= WORTH
    gentle = min((each for each in others if each.costs.error <= GENTLE), key=lambda each: each.total_s, default=None)
    if gentle is not None and dense.total_s < WORTH * gentle.total_s:
        gentle = None
    reason = _reason(dense, best, speedup, compress)
    return Verdict(compress=compress, ranked=ranked, speedups=speedups, gentle=gentle, reason=reason)


def _reason(dense: Prediction, best: Prediction, speedup: float, compress: bool) -> str:
    stages = {
        "the network": dense.up_s + dense.down_s,
        "the server": dense.server_s,
        "the workers": dense.compute_s + dense.compress_s + dense.apply_s,
    }
    where = max(stages, key=lambda stage: stages[stage])
    share = f"a dense round spends {_percent(stages[where] / dense.total_s)} of its time in {where}"
    if compress:
        return f"compress: {best.costs.name} makes a round {speedup:.3g} times faster than dense; {share}"
    if best is dense:
        return f"do not compress: there is nothing to compare; {share}"
    if speedup >= 1:
        return f"do not compress: the fastest, {best.costs.name}, saves {_percent(1 - 1 / speedup)} of a round only; {share}"
    return f"do not compress: dense is {1 / speedup:.3g} times faster than the fastest compressor, {best.costs.name}; {share}"


def _percent(share: float) -> str:
    return f"{math.floor(100 * share + 0.5)} %"
