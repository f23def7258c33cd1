"""Situations of DDP programs, for `test_ddp.py`: python ddp_situations.py RANK STORE RESULTS, in each of two gloo processes."""

from __future__ import annotations

import datetime
import io
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ddp_ranks import EXAMPLES, TINY_BUCKETS, Program, main, of_all, refused
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from saddlebag.client.ddp.hook import CompressionState, attach
from saddlebag.compression import Identity, Rule, TopK
from saddlebag.errors import ConfigError, StateError

_UNBIASED = {"bernoulli", "block_int4", "block_int8", "dithering", "identity", "induced", "natural", "natural_dithering"}
_UNBIASED |= {"perm_k", "rand_k", "stochastic_bfloat16", "ternary"}
REMEMBER = sorted(set(EXAMPLES) - _UNBIASED)
"""Compressors with a memory."""


class Checkpointed(torch.nn.Module):
    """A network whose middle is computed again during the backward pass; `reentrant` None for not at all."""

    def __init__(self, *, reentrant: bool | None) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)
        self.middle = torch.nn.ModuleList([torch.nn.Linear(8, 8) for _ in range(3)])
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for layer in self.middle:
            if self.reentrant is None:
                x = torch.tanh(layer(x))
            else:
                x = checkpoint(lambda z, layer=layer: torch.tanh(layer(z)), x, use_reentrant=self.reentrant)
        out: torch.Tensor = self.last(x)
        return out


class Inner(torch.autograd.Function):
    """The identity, whose backward runs a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        del ctx
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        del ctx
        with torch.enable_grad():
            other = torch.ones(3, requires_grad=True)
            other.square().sum().backward()
        return grad


class Nested(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(6, 6) for _ in range(4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = Inner.apply(torch.tanh(layer(x)))
        return x


def wrapped(make: Any, **ddp: Any) -> DistributedDataParallel:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return DistributedDataParallel(make().double(), bucket_cap_mb=TINY_BUCKETS, **ddp)


def rows(step: int = 0) -> torch.Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(2 * step + dist.get_rank()), dtype=torch.float64)


def backward(model: Any, step: int = 0) -> None:
    model.zero_grad()
    model(rows(step)).pow(2).mean().backward()


def gradients(model: DistributedDataParallel) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in model.module.named_parameters() if value.grad is not None}


def carried(state: CompressionState, name: str, like: torch.Tensor) -> torch.Tensor:
    memory = state.memory(name)
    own = torch.zeros_like(like) if memory is None else torch.from_numpy(memory).to(like.dtype).reshape(like.shape)
    return sum(of_all(own)) / dist.get_world_size()  # type: ignore[return-value]


def telescopes(compressor: str, params: dict[str, Any], model: Any, plain: Any, steps: int = 5) -> None:
    """What was applied and what the ranks carry is what plain DDP applies, for each parameter, over several steps."""
    state = attach(model, compressor, **params)
    given: dict[str, Any] = {}
    sent: dict[str, Any] = {}
    for step in range(steps):
        for total, network in ((given, plain), (sent, model)):
            backward(network, step)
            for name, grad in gradients(network).items():
                total[name] = total.get(name, 0.0) + grad
    assert state.step == steps
    for name, total in given.items():
        both = sent[name] + carried(state, name, total)
        atol = (
            1e-5 * float(total.abs().max()) if compressor == "power_sgd" else 1e-6
        )  # it computes, and others send, in float32
        torch.testing.assert_close(
            both, total, rtol=1e-6, atol=atol, msg=lambda said, name=name: f"{compressor} {name}: {said}"
        )


def checkpoints_lose_nothing() -> None:
    for name in ("top_k", "power_sgd", "scaled_sign", "low_rank", "hard_threshold", "scaled", "compose"):
        for options in ({}, {"static_graph": True}) if name in ("top_k", "power_sgd") else ({},):
            model = wrapped(lambda: Checkpointed(reentrant=True), **options)
            telescopes(name, EXAMPLES[name], model, wrapped(lambda: Checkpointed(reentrant=None)))


def every_memory_telescopes() -> None:
    for name in REMEMBER:
        telescopes(name, EXAMPLES[name], wrapped(Nested), wrapped(Nested), steps=3)


def checkpoints_keep_the_trajectory() -> None:
    trained = []
    for reentrant in (None, False, True):
        model = wrapped(lambda reentrant=reentrant: Checkpointed(reentrant=reentrant))
        attach(model, "top_k", fraction=0.2)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(4):
            if step == 2:  # two micro-batches
                with model.no_sync():
                    model(rows(9)).pow(2).mean().backward()
                model(rows(step)).pow(2).mean().backward()
            else:
                backward(model, step)
            optimiser.step()
        trained.append(torch.cat([value.detach().reshape(-1) for value in model.parameters()]))
    assert torch.equal(trained[0], trained[1])
    assert torch.equal(trained[0], trained[2])


def uneven_inputs() -> None:
    for name in ("top_k", "power_sgd", "identity", "rand_k"):
        models = [wrapped(Nested), wrapped(Nested)]
        state = attach(models[1], name, **EXAMPLES[name])
        sums = [torch.zeros(4 * 42, dtype=torch.float64) for _ in models]
        for total, model in zip(sums, models, strict=True):
            with model.join():
                for step in range(3 + 2 * dist.get_rank()):
                    backward(model, step)
                    total += torch.cat([grad.reshape(-1) for grad in gradients(model).values()])
        assert state.step == 5, name
        if name in ("top_k", "power_sgd") and dist.get_rank() == 1:  # which took part in all of the steps
            memory = [state.memory(key) for key, _ in models[1].module.named_parameters()]
            own = torch.cat([torch.from_numpy(kept).double() for kept in memory if kept is not None])
            assert own.abs().max() > 0
        own = torch.cat([carried(state, key, value.detach()).reshape(-1) for key, value in models[1].module.named_parameters()])
        if name != "rand_k" and dist.get_rank() == 1:
            torch.testing.assert_close(sums[1] + own, sums[0], rtol=1e-5, atol=1e-6)  # values travel as float32


def a_failing_rank_ends_all() -> None:
    group = dist.new_group([0, 1], timeout=datetime.timedelta(seconds=2))
    for name in ("top_k", "power_sgd"):
        program = Program(process_group=group)
        state = attach(program.ddp, name, **EXAMPLES[name])
        program.train(1)
        if dist.get_rank() == 1:

            def fails(*_: Any) -> None:
                raise MemoryError("no memory for this bucket")

            state._exchange.step = fails  # type: ignore[method-assign, assignment]
        started = time.monotonic()
        with refused(RuntimeError, "MemoryError: no memory for this bucket" if dist.get_rank() else "imed out"):
            program.train(1)
        assert time.monotonic() - started < 10, name  # the group's 2 s, with room for a busy machine
        assert state.error is not None
        assert isinstance(state.error, MemoryError if dist.get_rank() else RuntimeError)
        dist.barrier()


def ranks_must_attach_alike() -> None:
    rank = dist.get_rank()
    for words, given in (
        ("seed of rank 1 differs from that of rank 0; on rank {rank} it is {rank}", {"seed": rank, "fraction": 0.5}),
        ("the compressor of rank 1 differs", {"fraction": 0.5 + 0.25 * rank}),
        ("the compressor of rank 1 differs", {"compressor": ("top_k", "sampled_top_k")[rank], "fraction": 0.5}),
        ("the compressor of rank 1 differs", {"compressor": "power_sgd", "rank": 1 + rank}),
        ("start_after of rank 1 differs", {"start_after": rank, "fraction": 0.5}),
        ("feedback of rank 1 differs", {"feedback": bool(rank), "fraction": 0.5}),
        ("loss_scale of rank 1 differs", {"loss_scale": (None, float)[rank], "fraction": 0.5}),
        ("rules of rank 1 differs", {"rules": [Rule(match="*", use=Identity())][rank:], "fraction": 0.5}),
        ("rank 1 refuses to attach: ConfigError: top_k.k must be" if not rank else "top_k.k must be", {"k": 1 - rank}),
    ):
        with refused(ConfigError, words.format(rank=rank)):
            attach(Program().ddp, **{"compressor": "top_k", **given})  # type: ignore[arg-type]
    net = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    net[rank].requires_grad_(True)
    net[1 - rank].weight = torch.nn.Parameter(torch.zeros(2, 2))
    named = torch.nn.ModuleDict({("a", "b")[rank]: net})
    with refused(ConfigError, "the parameters' names of rank 1 differs"):
        attach(DistributedDataParallel(named), "identity")


def gradients_that_cannot_be_averaged() -> None:
    class Turned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn = torch.nn.Parameter(torch.ones(3, dtype=torch.cfloat))

    for name in ("identity", "top_k", "power_sgd"):
        with refused(ConfigError, "parameter 'turn' is torch.complex64"):
            attach(DistributedDataParallel(Turned()), name, **EXAMPLES[name])
    for module in (torch.nn.Embedding(5, 2, sparse=True), torch.nn.EmbeddingBag(5, 2, sparse=True)):
        with refused(ConfigError, "those of parameter '0.weight' are sparse"):
            attach(DistributedDataParallel(torch.nn.Sequential(module)), "top_k", fraction=0.5)
    frozen = torch.nn.Sequential(torch.nn.Embedding(5, 2, sparse=True).requires_grad_(False), torch.nn.Linear(2, 2))
    attach(DistributedDataParallel(frozen), "top_k", fraction=0.5)


def the_users_timeout() -> None:
    own = dist.new_group([0, 1], timeout=datetime.timedelta(seconds=7))
    for group, expected in ((None, 20), (own, 7)):
        state = attach(Program(process_group=group).ddp, "identity")
        found = state._ranks._group._get_backend(torch.device("cpu")).options._timeout
        assert found == datetime.timedelta(seconds=expected), found


def wrappers_and_mistakes() -> None:
    program = Program()
    state = attach(torch.compile(program.ddp, backend="eager"), "top_k", fraction=0.5)  # type: ignore[arg-type]
    program.train(1)
    assert state.step == 1
    inside = DistributedDataParallel(torch.compile(torch.nn.Linear(2, 2), backend="eager"))  # type: ignore[arg-type]
    assert "memory.weight" in attach(inside, "top_k", fraction=0.5).state_dict()
    with refused(ConfigError, "has a communication hook already"):
        attach(program.ddp, "top_k", fraction=0.5)
    for typed, meant in (("topk", "top_k"), ("powersgd", "power_sgd"), ("nearest-int8", "nearest_int8")):
        with refused(ConfigError, f"unknown compressor '{typed}'; did you mean '{meant}'? known: "):
            attach(Program().ddp, typed)
    with refused(ConfigError, "fraction goes with a compressor's name"):
        attach(Program().ddp, TopK(k=1), fraction=0.5)
    with refused(ConfigError, "seed must lie in"):
        attach(Program().ddp, "identity", seed=-1)
    with refused(ConfigError, "skip_all_reduce_unused_params"):
        attach(Program(find_unused_parameters=True, skip_all_reduce_unused_params=True).ddp, "identity")
    with refused(StateError, "save `state.state_dict()`"):
        torch.save({"hook": state}, io.BytesIO())


def what_it_says() -> None:
    program = Program(dtype=torch.float32)
    state = attach(program.ddp, "identity")
    assert state.ratio == 1.0
    program.train(2)
    assert state.ratio == 1.0
    assert repr(state) == (
        "<CompressionState of 4 parameters (83 entries), rank "
        f"{dist.get_rank()} of 2, step 2: 664 bytes up, 100.00% of the gradients>"
    )
    program = Program(dtype=torch.float32)
    state = attach(program.ddp, "top_k", k=2, rules=[Rule(match="2.bias", use=Identity())])
    program.train(3)
    lines = [line.split() for line in state.table().splitlines()]
    assert lines[0] == ["parameter", "entries", "bytes", "up", "ratio", "memory", "compressor"]
    assert [line[0] for line in lines[1:]] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    sent = {line[0]: int(line[2]) for line in lines[1:]}
    assert sent["2.bias"] == 3 * 12  # three float32 in each of three steps
    assert 3 * 2 * 4 < sent["0.weight"] < 3 * (2 * 4 + 8)  # two values and their places
    assert sum(sent.values()) <= state.bytes_up
    assert state.ratio == state.bytes_up / (3 * 83 * 4)


class WithEmpty(torch.nn.Module):
    """A network with parameters of no entries, first, last and in a bucket of their own."""

    def __init__(self, *, empty: bool) -> None:
        super().__init__()
        self.a = torch.nn.ParameterList([torch.nn.Parameter(torch.empty(shape)) for shape in ((0, 4), (4, 0), (0,)) if empty])
        self.net = torch.nn.Linear(6, 3)
        self.b = torch.nn.ParameterList([torch.nn.Parameter(torch.empty(0, 2)) for _ in range(empty)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(x)
        return out + sum(value.sum() for value in (*self.a, *self.b))


def parameters_without_entries() -> None:
    for name, params in EXAMPLES.items():
        found = []
        for empty in (False, True):
            model = wrapped(lambda empty=empty: WithEmpty(empty=empty))
            state = attach(model, name, **params)
            for step in range(2):
                backward(model, step)
            kept = gradients(model)
            assert all(grad.shape == value.shape for grad, value in zip(kept.values(), model.parameters(), strict=True))
            found.append((kept["net.weight"], kept["net.bias"], state.bytes_up))
            second = attach(wrapped(lambda empty=empty: WithEmpty(empty=empty)), name, **params)
            second.load_state_dict(state.state_dict())
            assert "net.weight" in state.table()
        assert torch.equal(found[0][0], found[1][0]), name
        assert torch.equal(found[0][1], found[1][1]), name
        assert found[0][2] == found[1][2], name  # nothing is sent for them
    only = DistributedDataParallel(torch.nn.ParameterList([torch.nn.Parameter(torch.empty(0, 3))]))
    assert attach(only, "top_k", k=3).ratio == 1.0


CHECKS = [
    parameters_without_entries,
    checkpoints_lose_nothing,
    every_memory_telescopes,
    checkpoints_keep_the_trajectory,
    uneven_inputs,
    ranks_must_attach_alike,
    gradients_that_cannot_be_averaged,
    the_users_timeout,
    wrappers_and_mistakes,
    what_it_says,
    a_failing_rank_ends_all,
]


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), CHECKS)
