"""What `test_hook.py` checks, run by each of two gloo processes: python ddp_ranks.py RANK STORE RESULTS."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from saddlebag.client.ddp.exchange import Ranks
from saddlebag.client.ddp.hook import CompressionState, attach
from saddlebag.compression import COMPRESSORS, Identity, Rule, TopK
from saddlebag.errors import ConfigError, RemoteProtocolError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable

TOP = {"name": "top_k", "fraction": 0.5}
RAND = {"name": "rand_k", "fraction": 0.5}
EXAMPLES: dict[str, dict[str, Any]] = {
    "chunk_top_k": {"chunk": 64, "k": 8},
    "bernoulli": {"probability": 0.5},
    "block_int4": {},
    "block_int8": {},
    "block_top_k": {"fraction": 0.5, "block": 2},
    "budget": {"of": "top_k", "budget_bytes": 60},
    "cast": {},
    "compose": {"sparsifier": TOP, "values": {"name": "nearest_int8"}},
    "decay": {"of": "top_k", "parameter": "fraction", "first": 0.8, "ratio": 0.5, "every": 1, "last": 0.2},
    "dithering": {"levels": 4},
    "greedy_blocks": {"fraction": 0.5, "block": 2},
    "grid": {},
    "hard_threshold": {"threshold": 0.01},
    "identity": {},
    "induced": {"contractive": TOP, "unbiased": RAND},
    "low_rank": {"rank": 1},
    "natural": {},
    "natural_dithering": {"levels": 4},
    "nearest_int4": {},
    "nearest_int8": {},
    "perm_k": {"workers": 2},
    "power_sgd": {"rank": 1},
    "rand_k": {"fraction": 0.5, "support": "common"},
    "sampled_top_k": {"fraction": 0.5},
    "scaled": {"unbiased": RAND},
    "scaled_sign": {},
    "schedule": {"pieces": [{"round": 0, **TOP}, {"round": 2, "name": "top_k", "fraction": 0.25}]},
    "stochastic_bfloat16": {},
    "ternary": {},
    "top_k": {"fraction": 0.25},
    "unscaled_rand_k": {"fraction": 0.5},
}
TINY_BUCKETS = 2e-4  # MiB: several buckets, which DDP cuts anew after the first step


class Program:
    """A DDP program: a small network on its own rows of random data, momentum."""

    def __init__(
        self, *, dtype: torch.dtype = torch.float64, cap_mb: float = TINY_BUCKETS, lr: float = 0.1, **ddp: Any
    ) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).to(dtype)
        self.ddp = DistributedDataParallel(net, bucket_cap_mb=cap_mb, **ddp)
        self.optimiser = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.5)
        generator = torch.Generator().manual_seed(10 + dist.get_rank())
        self.x = torch.randn(40, 4, 6, generator=generator, dtype=dtype)
        self.y = torch.randn(40, 4, 3, generator=generator, dtype=dtype)
        self.at = 0

    def loss(self, factor: float = 1.0) -> torch.Tensor:
        out: torch.Tensor = self.ddp(self.x[self.at])
        return factor * ((out - self.y[self.at]) ** 2).mean()

    def train(self, steps: int) -> torch.Tensor:
        for _ in range(steps):
            self.optimiser.zero_grad()
            self.loss().backward()
            self.optimiser.step()
            self.at += 1
        return self.flat()

    def flat(self) -> torch.Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.ddp.parameters()]).clone()

    def gradient(self) -> torch.Tensor:
        return torch.cat([p.grad.reshape(-1) for p in self.ddp.parameters() if p.grad is not None]).clone()

    def memory(self, state: CompressionState) -> np.ndarray[Any, Any]:
        return np.concatenate([state.memory(name) for name, _ in self.ddp.module.named_parameters()])  # type: ignore[arg-type]


def of_all(x: torch.Tensor) -> list[torch.Tensor]:
    out = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(out, x)
    return out


@contextlib.contextmanager
def refused(error: type[Exception], words: str) -> Any:
    try:
        yield
    except error as raised:
        said = str(raised)
    else:
        said = "nothing was raised"
    assert words in said, said


def identity_is_ddp() -> None:
    plain, hooked = Program(dtype=torch.float32), Program(dtype=torch.float32)
    state = attach(hooked.ddp, "identity")
    torch.testing.assert_close(hooked.train(5), plain.train(5), rtol=1e-6, atol=1e-7)  # roundings of two additions in float32
    assert state.step == 5
    assert state.bytes_up == state.bytes_down == 5 * 4 * len(plain.flat())


def every_compressor() -> None:
    assert set(EXAMPLES) == set(COMPRESSORS) - {"per_tensor"} | {"power_sgd"}
    for name, params in EXAMPLES.items():
        program = Program(dtype=torch.float32)
        before = program.flat()
        state = attach(program.ddp, name, start_after=0, **params)
        first, second = of_all(program.train(4))
        assert torch.equal(first, second), name
        assert torch.isfinite(first).all(), name
        assert not torch.equal(first, before), name
        assert state.bytes_up > 0, name


def sent_and_carried() -> None:
    for name, params in (("top_k", {"fraction": 0.1}), ("power_sgd", {"rank": 1}), ("unscaled_rand_k", {"fraction": 0.3})):
        program = Program(lr=0.0)  # so that a step's inputs are the gradients of the start
        state = attach(program.ddp, name, **params)
        given, sent = (
            torch.zeros(len(program.flat()), dtype=torch.float64),
            torch.zeros(len(program.flat()), dtype=torch.float64),
        )
        for _ in range(6):
            module = program.ddp.module
            own = torch.autograd.grad(
                ((module(program.x[program.at]) - program.y[program.at]) ** 2).mean(), list(module.parameters())
            )
            given += torch.cat([g.reshape(-1) for g in own])
            program.train(1)
            sent += program.gradient()
        carried = torch.from_numpy(program.memory(state)).double()
        mean = sum(of_all(given - carried)) / 2  # type: ignore[operator]
        assert carried.abs().max() > 1e-3
        torch.testing.assert_close(sent, mean, rtol=0, atol=1e-6 if name == "power_sgd" else 1e-14)  # it computes in float32


def power_sgd_of_full_rank_is_ddp() -> None:
    def make() -> DistributedDataParallel:
        with torch.random.fork_rng():
            torch.manual_seed(2)
            return DistributedDataParallel(torch.nn.Linear(16, 12))

    plain, hooked = make(), make()
    attach(hooked, "power_sgd", rank=2)  # one row on each of two ranks: the mean matrix has rank 2
    for step in range(3):
        x = torch.randn(1, 16, generator=torch.Generator().manual_seed(2 * step + dist.get_rank()))
        for model in (plain, hooked):
            model.zero_grad()
            model(x).square().sum().backward()
        for a, b in zip(plain.parameters(), hooked.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def resume_is_bitwise() -> None:
    for name in ("top_k", "power_sgd", "dithering"):
        whole = Program(dtype=torch.float32)
        attach(whole.ddp, name, **EXAMPLES[name], start_after=1)
        expected = whole.train(7)
        first = Program(dtype=torch.float32)
        state = attach(first.ddp, name, **EXAMPLES[name], start_after=1)
        first.train(3)
        kept = {key: value.clone() for key, value in state.state_dict().items()}
        second = Program(dtype=torch.float32)
        second.ddp.module.load_state_dict(first.ddp.module.state_dict())
        second.optimiser.load_state_dict(first.optimiser.state_dict())
        second.at = first.at
        again = attach(second.ddp, name, **EXAMPLES[name], start_after=1)
        again.load_state_dict(kept)
        assert torch.equal(second.train(4), expected), name
        with refused(StateError, "rank"):
            again.load_state_dict({**kept, "rank": 1 - kept["rank"]})
        with refused(StateError, "another model"):
            again.load_state_dict({key: value for key, value in kept.items() if key != "step"})


def buckets_do_not_matter() -> None:
    for name in ("top_k", "low_rank", "rand_k", "power_sgd"):
        trained = []
        for cap_mb in (TINY_BUCKETS, 25.0):
            program = Program(dtype=torch.float32, cap_mb=cap_mb)
            attach(program.ddp, name, **EXAMPLES[name])
            trained.append(program.train(4))
        torch.testing.assert_close(*trained, rtol=0, atol=1e-6 if name == "power_sgd" else 0)  # BLAS on other alignments


def overflow_skips_everywhere() -> None:
    for name, params in (
        ("top_k", {"fraction": 0.1}),
        ("power_sgd", {}),
        ("unscaled_rand_k", {"fraction": 0.5, "support": "common"}),
    ):
        program = Program()
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        state = attach(program.ddp, name, **params, loss_scale=scaler.get_scale)
        for step in range(4):
            program.optimiser.zero_grad()
            bad = step == 2 and dist.get_rank() == 1
            before, memory = program.flat(), program.memory(state)
            scaler.scale(program.loss(float("inf") if bad else 1.0)).backward()
            scaler.step(program.optimiser)
            scaler.update()
            if step == 2:
                assert torch.equal(program.flat(), before), name
                assert np.array_equal(program.memory(state), memory), name
                assert scaler.get_scale() == 512.0, name
        assert torch.isfinite(program.flat()).all(), name
        assert state.step == 4


def loss_scales_do_not_matter() -> None:
    plain, scaled = Program(), Program()
    attach(plain.ddp, "top_k", fraction=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=2)
    attach(scaled.ddp, "top_k", fraction=0.1, loss_scale=scaler.get_scale)
    for _ in range(6):
        scaled.optimiser.zero_grad()
        scaler.scale(scaled.loss()).backward()
        scaler.step(scaled.optimiser)
        scaler.update()
        scaled.at += 1
    assert scaler.get_scale() == 2048.0
    assert torch.equal(scaled.flat(), plain.train(6))  # powers of two are exact


def accumulation() -> None:
    whole, parts = Program(), Program()
    attach(whole.ddp, "top_k", fraction=0.2)
    state = attach(parts.ddp, "top_k", fraction=0.2)
    for _ in range(3):
        parts.optimiser.zero_grad()
        x, y = parts.x[parts.at], parts.y[parts.at]
        with parts.ddp.no_sync():
            (((parts.ddp(x[:2]) - y[:2]) ** 2).mean() / 2).backward()
        (((parts.ddp(x[2:]) - y[2:]) ** 2).mean() / 2).backward()
        parts.optimiser.step()
        parts.at += 1
    assert state.step == 3
    torch.testing.assert_close(parts.flat(), whole.train(3), rtol=1e-6, atol=1e-7)  # values travel as float32


def warm_up_is_ddp() -> None:
    plain, hooked = Program(), Program()
    state = attach(hooked.ddp, "top_k", fraction=0.1, start_after=3)
    torch.testing.assert_close(hooked.train(3), plain.train(3), rtol=1e-14, atol=1e-14)
    assert not hooked.memory(state).any()
    assert not torch.allclose(hooked.train(1), plain.train(1))
    assert hooked.memory(state).any()


def rules_by_name() -> None:
    program = Program(lr=0.0, dtype=torch.float32)
    state = attach(program.ddp, TopK(k=1), rules=[Rule(match="*.bias", use=Identity(dtype="float64"))])
    program.train(1)
    assert state.memory("0.bias") is None
    assert np.count_nonzero(state.memory("0.weight")) == 47
    assert (
        sum(int((p.grad != 0).sum()) for n, p in program.ddp.module.named_parameters() if "weight" in n and p.grad is not None)
        <= 4
    )


def lengths_are_bounded() -> None:
    class Liar(bytes):
        def __len__(self) -> int:
            return 1 << 40

    ranks = Ranks(None)
    with refused(RemoteProtocolError, "rank 1 announces a message of 1099511627776 bytes"):
        ranks.messages(Liar(b"x") if ranks.rank == 1 else b"x", 100)
    assert ranks.messages(None if ranks.rank else b"x", 100) is None
    assert ranks.messages(b"abc" if ranks.rank else b"", 100) == [b"", b"abc"]


def malformed_messages_end_the_step() -> None:
    program = Program()
    state = attach(program.ddp, "top_k", fraction=0.1)
    program.train(1)
    honest = state._ranks.messages
    state._ranks.messages = lambda data, most: honest(b"\xff" * 9 if dist.get_rank() else data, most)  # type: ignore[method-assign]
    with refused(RuntimeError, "RemoteProtocolError: "):
        program.train(1)
    assert isinstance(state.error, RemoteProtocolError)


def refusals() -> None:
    with refused(ConfigError, "DistributedDataParallel"):
        attach(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    with refused(ConfigError, "3 workers"):
        attach(Program().ddp, "perm_k", workers=3)
    with refused(ConfigError, "feedback=False"):
        attach(Program(find_unused_parameters=True).ddp, "top_k", fraction=0.5)
    with refused(ConfigError, "'0.bias'"):
        attach(Program().ddp, "top_k", k=20)
    with refused(ConfigError, "rules="):
        attach(Program().ddp, "per_tensor", tensors=[], rules=[])
    program = Program(find_unused_parameters=True)
    attach(program.ddp, "block_int8", feedback=False)
    program.train(2)


def alone() -> None:
    groups = [dist.new_group([rank]) for rank in range(2)]
    for name in ("identity", "power_sgd", "top_k"):
        program = Program(dtype=torch.float32, lr=0.0, process_group=groups[dist.get_rank()])
        state = attach(program.ddp, name, **EXAMPLES[name])
        program.train(1)
        plain = Program(dtype=torch.float32, lr=0.0, process_group=groups[dist.get_rank()])
        plain.train(1)
        carried = torch.from_numpy(program.memory(state)).float() if name != "identity" else 0.0
        torch.testing.assert_close(program.gradient() + carried, plain.gradient(), rtol=1e-5, atol=1e-6)


def narrow_gradients_and_views() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        plain, hooked = (Program(dtype=dtype, gradient_as_bucket_view=True) for _ in range(2))
        attach(hooked.ddp, "identity")
        torch.testing.assert_close(hooked.train(3).float(), plain.train(3).float(), rtol=0, atol=0.05)  # sums in 16 bits
        assert hooked.flat().dtype == dtype
        assert torch.equal(*of_all(hooked.flat()))


def zero_redundancy() -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer  # here, for its import warns of an old torch.jit

    whole, sharded = Program(), Program()
    attach(whole.ddp, "top_k", fraction=0.2)
    state = attach(sharded.ddp, "top_k", fraction=0.2)
    sharded.optimiser = ZeroRedundancyOptimizer(sharded.ddp.parameters(), torch.optim.SGD, lr=0.1, momentum=0.5)
    assert torch.equal(sharded.train(4), whole.train(4))
    assert state.step == 4


CHECKS = [
    alone,
    narrow_gradients_and_views,
    zero_redundancy,
    identity_is_ddp,
    every_compressor,
    sent_and_carried,
    power_sgd_of_full_rank_is_ddp,
    resume_is_bitwise,
    buckets_do_not_matter,
    overflow_skips_everywhere,
    loss_scales_do_not_matter,
    accumulation,
    warm_up_is_ddp,
    rules_by_name,
    lengths_are_bounded,
    refusals,
    malformed_messages_end_the_step,
]


def main(rank: int, store: str, results: Path, checks: list[Callable[[], None]]) -> None:
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=20)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timeout)
    outcome = {}
    for check in checks:
        try:
            check()
            outcome[check.__name__] = ""
        except BaseException:
            outcome[check.__name__] = traceback.format_exc()
        results.write_text(json.dumps(outcome))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), CHECKS)
