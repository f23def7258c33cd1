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
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from saddlebag.client.ddp.checks import agree, check_parameters, named_parameters, timeout_of, unwrapped
from saddlebag.client.ddp.exchange import POWER_SGD, Coded, Piece, Power, PowerRule, Ranks
from saddlebag.compression import COMPRESSORS, Draws, Rule, Tensor, make_compressor
from saddlebag.compression.registry import unknown_compressor
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
        model: a `DistributedDataParallel`, compiled or not; its process group's ranks get a gloo group of their own for the
            messages, with the same timeout.
        compressor: a compressor, its registered name, or "power_sgd" (with rank and worth).
        rules: `Rule`s that are tried before `compressor`, by the name of the parameter and its size.
        seed: of the compressors' draws, whose key is (seed, step, rank).
        start_after: steps that are averaged uncompressed before the first compressed one.
        feedback: whether contractive compressors have a memory; unbiased ones never do.
        loss_scale: with a `GradScaler`, its `get_scale`: the memory changes its unit with the gradients.
        **params: of a named compressor.

    Raises:
        ConfigError: a compressor does not fit a parameter, the model is no DDP model or has a hook, it may leave parameters
            unused, a gradient is complex or sparse, or the ranks' arguments differ; then it is raised on all ranks.

    Example:
        >>> import torch, torch.distributed as dist
        >>> import saddlebag as sb
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 4))
        >>> state = sb.attach(model, "top_k", fraction=0.25)
        >>> model(torch.ones(2, 8)).sum().backward()
        >>> state.bytes_up > 0
        True
        >>> dist.destroy_process_group()
    """
    model = _hookless(model)
    named, ranks = named_parameters(model), _own_ranks(model)
    tensors = [Tensor(name, tuple(value.shape)) for name, value in named.items()]
    ways: dict[str, Any] = {"seed": seed, "start_after": start_after, "feedback": feedback}
    made: Any = compressor
    exchange: Exchange | None = None
    refusal: Exception | None = None
    try:
        made = _made(compressor, params)
        exchange = _checked(model, made, tensors, rules, ranks, **ways)
    except Exception as error:  # raised by `agree`, after the other ranks have heard of it
        refusal = error
    asked = {"the compressor": made, "rules": list(rules), **ways, "loss_scale": loss_scale is not None}
    of_model = {
        "the parameters' names": list(named),
        "the parameters' shapes": [tensor.shape for tensor in tensors],
        "the parameters' types": [str(value.dtype) for value in named.values()],
    }
    agree(ranks, asked | of_model, refusal)
    assert exchange is not None
    names = {id(value): tensor for value, tensor in zip(named.values(), tensors, strict=True)}
    state = CompressionState(exchange, names, ranks, seed=seed, start_after=start_after, loss_scale=loss_scale)
    model.register_comm_hook(state, compress)
    return state


def _hookless(model: DistributedDataParallel) -> DistributedDataParallel:
    """The model behind a compiled one, which has no hook yet."""
    model = unwrapped(model)
    if not isinstance(model, DistributedDataParallel):
        raise ConfigError(
            f"attach needs a DistributedDataParallel (FSDP shards what the memory needs), got {type(model).__name__}"
        )
    if model._comm_hooks:
        raise ConfigError("the model has a communication hook already; DDP takes one: make a new DistributedDataParallel")
    return model


def _own_ranks(model: DistributedDataParallel) -> Ranks:
    """A gloo group of the model's ranks, for the messages."""
    group = model.process_group
    members = dist.get_process_group_ranks(group)
    return Ranks(dist.new_group(members, timeout=timeout_of(group), backend="gloo", use_local_synchronization=True))


def _made(compressor: str | Compressor, params: Mapping[str, Any]) -> Compressor | PowerRule:
    if compressor == POWER_SGD:
        try:
            return PowerRule(**params)
        except TypeError as error:
            raise ConfigError(f"power_sgd takes rank and worth: {error}") from error
    if compressor == "per_tensor":
        raise ConfigError("every compressor works tensor by tensor here: give `rules=[Rule(...)]` in place of per_tensor")
    if isinstance(compressor, str):
        if compressor not in COMPRESSORS:
            raise unknown_compressor(compressor, {*COMPRESSORS, POWER_SGD} - {"per_tensor"})
        return make_compressor(compressor, **params)
    if params:
        raise ConfigError(f"{', '.join(params)} goes with a compressor's name, and {compressor} is one that is made")
    return compressor


def _checked(
    model: DistributedDataParallel,
    made: Compressor | PowerRule,
    tensors: Sequence[Tensor],
    rules: Sequence[Rule],
    ranks: Ranks,
    *,
    seed: int,
    start_after: int,
    feedback: bool,
) -> Exchange:
    if type(start_after) is not int or start_after < 0:
        raise ConfigError(f"start_after must be a whole number from 0, got {start_after!r}")
    Draws(seed, 0)  # refuses a seed that is none
    check_parameters(model)
    exchange: Exchange
    if isinstance(made, PowerRule):
        if rules or not feedback:
            raise ConfigError("power_sgd takes all tensors and has a memory: rules and feedback=False do not go with it")
        exchange = Power(tensors, rank=made.rank, worth=made.worth)
    else:
        exchange = Coded(tensors, [*rules, Rule(use=made)], ranks.size, feedback=feedback)
    if model.find_unused_parameters and exchange.begin():
        raise ConfigError("a memory needs every parameter in every step, and find_unused_parameters=True: say feedback=False")
    if model.skip_all_reduce_unused_params:
        raise ConfigError("skip_all_reduce_unused_params=True may leave out a step's last bucket, which ends it here")
    return exchange


def compress(state: CompressionState, bucket: Bucket) -> torch.futures.Future[torch.Tensor]:
    """The hook for `register_comm_hook`: the future of the bucket's averaged gradient."""
    return state.begin(bucket)


compress.__annotations__ = {}  # DDP compares them with its classes, and here they are text


@dataclasses.dataclass
class _Step:
    """What the buckets of one step share.

    Attributes:
        number: of the step, from 0.
        scale: of the loss.
        unit: by what the kept memory is multiplied, for a loss scale that has changed since.
        after: what is kept if the step is finite on all ranks.
        finite: whether it is, so far.
    """

    number: int
    scale: float
    unit: float
    after: Kept = dataclasses.field(default_factory=dict)
    finite: bool = True


def _raised(done: torch.futures.Future[Any]) -> torch.Tensor:
    """The averaged gradient, or the error in its place: raised here, it is the error of the future that DDP waits for."""
    outcome: torch.Tensor | Exception = done.value()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class CompressionState:
    """What the hook keeps between steps; made by `attach`.

    A step ends with its last bucket, whoever asks for it: a backward pass, one inside another (reentrant checkpoints), or
    `join`, which answers for a rank that has no more inputs. One in which some rank's gradient is not finite gives NaN to all
    ranks, so that every `GradScaler` skips it, and leaves the memory as it was. One that breaks off before its last bucket
    counts for nothing.

    Attributes:
        step: how many synchronised backward passes there have been; gradient accumulation under `no_sync` counts once.
        error: what an exchange has raised; None while all is well. `backward` raises it as a RuntimeError, and so does every
            later one, since the ranks are in the middle of a step.
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
        self._bytes_plain = 0
        self.error: Exception | None = None
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

    @property
    def ratio(self) -> float:
        """`bytes_up` as a share of the gradients' own bytes, which DDP without a hook hands over; 1 before the first step."""
        return self.bytes_up / self._bytes_plain if self._bytes_plain else 1.0

    def table(self) -> str:
        """A line for each parameter: entries, compressor, bytes sent so far and their share of its own, norm of its memory."""
        rows = [("parameter", "entries", "bytes up", "ratio", "memory", "compressor")]
        plain = self._bytes_plain / max(1, sum(tensor.size for tensor in self._tensors.values()))
        for tensor in self._tensors.values():
            sent, kept = self._ranks.sent[tensor.name], self._kept.get(f"memory.{tensor.name}")
            ratio = f"{sent / (plain * tensor.size):.2%}" if plain * tensor.size else "-"
            memory = "-" if kept is None else f"{float(np.linalg.norm(kept)):.3g}"
            rows.append(
                (tensor.name, f"{tensor.size:,}", f"{sent:,}", ratio, memory, self._exchange.compressor_of(tensor.name))
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)

    def __repr__(self) -> str:
        entries = sum(tensor.size for tensor in self._tensors.values())
        return (
            f"<CompressionState of {len(self._tensors)} parameters ({entries:,} entries), rank {self._ranks.rank} of "
            f"{self._ranks.size}, step {self.step}: {self.bytes_up:,} bytes up, {self.ratio:.2%} of the gradients>"
        )

    def __reduce__(self) -> NoReturn:
        raise StateError("the hook's state holds a process group: save `state.state_dict()` on every rank instead")

    def memory(self, name: str) -> Vector | None:
        """What a parameter still owes, flat, in the unit of the last step's gradients; None where it has no memory."""
        kept: Vector | None = self._kept.get(f"memory.{name}")
        return None if kept is None else kept.copy()

    def begin(self, bucket: Bucket) -> torch.futures.Future[torch.Tensor]:
        """Start the exchange of a bucket; DDP hands them over in the same order on all ranks."""
        buffer = bucket.buffer()
        if bucket.index() == 0 or self._now is None:  # 0 also after a backward pass that broke off
            scale = self._loss_scale() if self._loss_scale else 1.0
            self._now = _Step(self.step, scale, scale / self._scale)
        now, last = self._now, bucket.is_last()
        if last:
            self._now = None
        self._bytes_plain += buffer.nbytes
        host_D = buffer.detach().to("cpu", torch.float64 if buffer.dtype == torch.float64 else torch.float32).numpy()
        pieces, at = [], 0
        for parameter in bucket.parameters():
            tensor = self._tensors[id(parameter)]
            if tensor.size:  # one without entries has nothing to say
                pieces.append(Piece(tensor, host_D[at : at + tensor.size]))
            at += tensor.size
        devices: list[int | str | torch.device] | None = [buffer.device] if buffer.is_cuda else None
        future: torch.futures.Future[Any] = torch.futures.Future(devices=devices)
        averaged = future.then(_raised)
        self._thread.submit(self._average, now, pieces, buffer, future, last=last)
        return averaged

    def _average(
        self, now: _Step, pieces: list[Piece], buffer: torch.Tensor, future: torch.futures.Future[Any], *, last: bool
    ) -> None:
        """One bucket, in the thread: the mean goes into DDP's own buffer; after the last one the step's memory is kept.

        After an error this rank takes part in no exchange: the others' would meet another bucket's.
        """
        outcome: torch.Tensor | Exception = buffer
        try:
            if self.error is not None:
                raise self.error
            mean_D = self._mean(now, pieces)
            if mean_D is None:
                now.finite = False
                buffer.fill_(float("nan"))
            else:
                buffer.copy_(torch.from_numpy(mean_D))
            if last:
                self._commit(now)
        except Exception as error:  # of whatever kind: DDP would wait for ever
            self.error = outcome = error
            buffer.fill_(float("nan"))
        future.set_result(outcome)

    def _mean(self, now: _Step, pieces: list[Piece]) -> Vector | None:
        if not pieces:
            return np.zeros(0)
        if now.number < self._start_after:
            self._ranks.sent.update({piece.name: piece.x_D.nbytes for piece in pieces})
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
        if now.finite and now.number >= self._start_after:
            self._kept.update(now.after)
            self._scale = now.scale  # else the memory has kept its unit
        self.step += 1

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
