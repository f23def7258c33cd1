"""Compression for programs that use `torch.nn.parallel.DistributedDataParallel`: a communication hook in one line.

    model = DistributedDataParallel(model)
    state = saddlebag.client.ddp.hook.attach(model, "top_k", fraction=0.01)

Tensor by tensor, a rank's gradient and its memory are compressed; the ranks' messages are averaged; what was not sent stays in
the memory under the parameter's name. So nothing depends on how DDP cuts its buckets, which it does anew after its first step.
A bucket is compressed and exchanged in a thread, in the buckets' order, while the backward pass of the layers before it runs.

`docs/ddp.md` says what it combines with. Error feedback: Seide et al. 2014; Karimireddy et al. 2019.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from saddlebag.client.ddp.exchange import Coded, Piece, Power, Ranks
from saddlebag.compression import Draws, Rule, Tensor, make_compressor
from saddlebag.errors import ConfigError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch._C._distributed_c10d import GradBucket as Bucket

    from saddlebag.client.ddp.exchange import Exchange, Kept
    from saddlebag.compression import Compressor, Vector

__all__ = ["CompressionState", "attach", "compress"]


def attach(
    model: DistributedDataParallel,
    compressor: str | Compressor = "top_k",
    *,
    rules: Sequence[Rule] = (),
    seed: int = 0,
    start_after: int = 0,
    feedback: bool = True,
    loss_scale: Callable[[], float] | None = None,
    **params: Any,
) -> CompressionState:
    """Register the hook on `model`; every rank calls it, with equal arguments, before the first step.

    Args:
        model: a `DistributedDataParallel`; its process group's ranks get a gloo group of their own for the messages.
        compressor: a compressor, its registered name, or "power_sgd" (with rank and worth).
        rules: `Rule`s that are tried before `compressor`, by the name of the parameter and its size.
        seed: of the compressors' draws, whose key is (seed, step, rank).
        start_after: steps that are averaged uncompressed before the first compressed one.
        feedback: whether contractive compressors have a memory; unbiased ones never do.
        loss_scale: with a `GradScaler`, its `get_scale`: the memory changes its unit with the gradients.
        **params: of a named compressor.

    Raises:
        ConfigError: a compressor does not fit a parameter, the model is no DDP model, or it may leave parameters unused.
    """
    if not isinstance(model, DistributedDataParallel):
        raise ConfigError(
            f"attach needs a DistributedDataParallel (FSDP shards what the memory needs), got {type(model).__name__}"
        )
    if type(start_after) is not int or start_after < 0:
        raise ConfigError(f"start_after must be a whole number from 0, got {start_after!r}")
    members = dist.get_process_group_ranks(model.process_group)
    ranks = Ranks(dist.new_group(members, backend="gloo", use_local_synchronization=True))
    named = {name: value for name, value in model.module.named_parameters() if value.requires_grad}
    tensors = [Tensor(name, tuple(value.shape)) for name, value in named.items()]
    exchange = _exchange_of(compressor, tensors, rules, ranks, params, feedback=feedback)
    if model.find_unused_parameters and exchange.begin():
        raise ConfigError("a memory needs every parameter in every step, and find_unused_parameters=True: say feedback=False")
    names = {id(value): tensor for value, tensor in zip(named.values(), tensors, strict=True)}
    state = CompressionState(exchange, names, ranks, seed=seed, start_after=start_after, loss_scale=loss_scale)
    model.register_comm_hook(state, compress)
    return state


def _exchange_of(
    compressor: str | Compressor,
    tensors: Sequence[Tensor],
    rules: Sequence[Rule],
    ranks: Ranks,
    params: Mapping[str, Any],
    *,
    feedback: bool,
) -> Exchange:
    if compressor == "power_sgd":
        if rules or not feedback:
            raise ConfigError("power_sgd takes all tensors and has a memory: rules and feedback=False do not go with it")
        try:
            return Power(tensors, **params)
        except TypeError as error:
            raise ConfigError(f"power_sgd takes rank and worth: {error}") from error
    if compressor == "per_tensor":
        raise ConfigError("every compressor works tensor by tensor here: give `rules=[Rule(...)]` in place of per_tensor")
    made = make_compressor(compressor, **params) if isinstance(compressor, str) else compressor
    return Coded(tensors, [*rules, Rule(use=made)], ranks.size, feedback=feedback)


def compress(state: CompressionState, bucket: Bucket) -> torch.futures.Future[torch.Tensor]:
    """The hook for `register_comm_hook`: the future of the bucket's averaged gradient."""
    return state.begin(bucket)


compress.__annotations__ = {}  # DDP compares them with its classes, and here they are text


@dataclasses.dataclass(frozen=True)
class _Step:
    """What the buckets of one step share.

    Attributes:
        number: of the step, from 0.
        unit: by what the kept memory is multiplied, for a loss scale that has changed since.
        works: the buckets' exchanges.
        after: what is kept if the step is finite on all ranks.
        overflows: empty if it is, so far.
    """

    number: int
    unit: float
    works: list[concurrent.futures.Future[None]] = dataclasses.field(default_factory=list)
    after: Kept = dataclasses.field(default_factory=dict)
    overflows: list[int] = dataclasses.field(default_factory=list)


class CompressionState:
    """What the hook keeps between steps; made by `attach`.

    A step in which some rank's gradient is not finite gives NaN to all ranks, so that every `GradScaler` skips it, and leaves
    the memory as it was.

    Attributes:
        step: how many synchronised backward passes there have been; gradient accumulation under `no_sync` counts once.
    """

    def __init__(
        self,
        exchange: Exchange,
        tensors: Mapping[int, Tensor],
        ranks: Ranks,
        *,
        seed: int,
        start_after: int,
        loss_scale: Callable[[], float] | None,
    ) -> None:
        self._exchange, self._tensors, self._ranks = exchange, tensors, ranks
        self._seed, self._start_after, self._loss_scale = seed, start_after, loss_scale
        self._kept, self._scale = exchange.begin(), 1.0
        self._now: _Step | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="saddlebag-ddp")
        self.step = 0

    @property
    def bytes_up(self) -> int:
        """Bytes this rank has handed to collectives; see `Ranks`."""
        return self._ranks.bytes_up

    @property
    def bytes_down(self) -> int:
        """Bytes this rank has taken from collectives; see `Ranks`."""
        return self._ranks.bytes_down

    def memory(self, name: str) -> Vector | None:
        """What a parameter still owes, flat, in the unit of the last step's gradients; None where it has no memory."""
        kept: Vector | None = self._kept.get(f"memory.{name}")
        return None if kept is None else kept.copy()

    def begin(self, bucket: Bucket) -> torch.futures.Future[torch.Tensor]:
        """Start the exchange of a bucket; DDP hands them over in the same order on all ranks."""
        buffer = bucket.buffer()
        if bucket.index() == 0 or self._now is None:
            scale = self._loss_scale() if self._loss_scale else 1.0
            self._now = _Step(self.step, scale / self._scale)
            self._scale = scale
            engine: Any = torch.autograd.Variable._execution_engine
            engine.queue_callback(self._now_over)
        host_D = buffer.detach().to("cpu", torch.float64 if buffer.dtype == torch.float64 else torch.float32).numpy()
        pieces, at = [], 0
        for parameter in bucket.parameters():
            tensor = self._tensors[id(parameter)]
            pieces.append(Piece(tensor, host_D[at : at + tensor.size]))
            at += tensor.size
        devices: list[int | str | torch.device] | None = [buffer.device] if buffer.is_cuda else None
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future(devices=devices)
        work = self._thread.submit(self._average, self._now, pieces, buffer, future, last=bucket.is_last())
        self._now.works.append(work)
        return future

    def _average(
        self, now: _Step, pieces: list[Piece], buffer: torch.Tensor, future: torch.futures.Future[torch.Tensor], *, last: bool
    ) -> None:
        """One bucket, in the thread: the mean goes into DDP's own buffer; after the last one the step's memory is kept."""
        mean_D: Vector | None = None
        try:
            mean_D = self._mean(now, pieces)
            if mean_D is None:
                now.overflows.append(len(now.works))
            if last:
                self._commit(now)
        finally:  # where it failed, too, or DDP would wait for ever; `_now_over` raises
            if mean_D is None:
                buffer.fill_(float("nan"))
            else:
                buffer.copy_(torch.from_numpy(mean_D))
            future.set_result(buffer)

    def _mean(self, now: _Step, pieces: list[Piece]) -> Vector | None:
        if now.number < self._start_after:
            return self._ranks.mean(np.concatenate([piece.x_D for piece in pieces]))
        kept: Kept = {}
        for piece in pieces:
            memory, start = f"memory.{piece.name}", f"start.{piece.name}"
            if memory in self._kept:
                kept[memory] = self._kept[memory] * now.unit if now.unit != 1.0 else self._kept[memory]
            if start in self._kept:
                kept[start] = self._kept[start]
        stepped = self._exchange.step(pieces, kept, Draws(self._seed, now.number), self._ranks)
        if stepped is None:
            return None
        means, after = stepped
        now.after.update(after)
        return np.concatenate(means)

    def _commit(self, now: _Step) -> None:
        if now.overflows or now.number < self._start_after:
            self._scale /= now.unit  # the memory has kept its unit
        else:
            self._kept.update(now.after)
        self.step += 1

    def _now_over(self) -> None:
        """At the end of the backward pass, before DDP waits for its buckets: raise what an exchange has raised."""
        now, self._now = self._now, None
        for work in now.works if now else ():
            work.result()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """This rank's state as tensors only, for its own checkpoint: every rank saves, since memories differ."""
        facts = {"step": self.step, "rank": self._ranks.rank, "ranks": self._ranks.size}
        numbers = {name: torch.tensor(value, dtype=torch.int64) for name, value in facts.items()}
        kept = {name: torch.from_numpy(value.copy()) for name, value in self._kept.items()}
        return {**numbers, "scale": torch.tensor(self._scale, dtype=torch.float64), **kept}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on where `state_dict` was taken: the next steps are those of an uninterrupted run, bit for bit.

        Raises:
            StateError: it is of another model, compressor, rank or number of ranks; nothing has changed then.
        """
        own = self.state_dict()
        if set(state) != set(own):
            odd = ", ".join(sorted(set(state) ^ set(own))[:3])
            raise StateError(f"the state is of another model or compressor: one of the two lacks {odd}")
        for name, value in own.items():
            if state[name].shape != value.shape or state[name].dtype != value.dtype:
                raise StateError(
                    f"{name} must be {value.dtype} {tuple(value.shape)}, got {state[name].dtype} {tuple(state[name].shape)}"
                )
        for name in ("rank", "ranks"):
            if int(state[name]) != int(own[name]):
                raise StateError(f"the state is of {name}={int(state[name])}, this process has {name}={int(own[name])}")
        if not all(bool(torch.isfinite(value).all()) for value in state.values()) or int(state["step"]) < 0:
            raise StateError("the state holds values that are not finite, or a negative step")
        self.step, self._scale = int(state["step"]), float(state["scale"])
        self._kept = {name: state[name].cpu().numpy().copy() for name in self._kept}
