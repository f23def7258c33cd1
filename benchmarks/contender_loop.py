"""One program of `bench_thin_links.py`: an ordinary training loop, and one way of exchanging what it learns.

    contender_loop.py --job JOB.json --rank M

Model, data, seeds, schedule, steps and judge are the same for every way; they are those of `examples/link_gpt/`, smaller. The
clock starts, and the interface's counters are read, when all programs are connected and before anybody's first step; it stops
while the model is judged. What a way sets up in its first exchange counts.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples" / "link_gpt"))
gpt: Any = importlib.import_module("train")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Step = Callable[[], None]  # after the backward pass
    Ready = tuple[nn.Module, Step]  # the module to call, and how it steps and exchanges

_FOREVER = datetime.timedelta(seconds=900)
JUDGED = 200  # stretches of held-out text
MODEL = {"LAYERS": 2, "WIDTH": 64, "CONTEXT": 32, "BATCH": 12}
TINY = {"LAYERS": 1, "WIDTH": 8, "CONTEXT": 8, "BATCH": 2}
TEXT = "the quick brown fox jumps over the lazy dog. " * 400


class Job:
    """What `bench_thin_links.py` says in a file, and where programs meet: a folder that all of them see."""

    def __init__(self, path: Path, rank: int) -> None:
        self.rank, self.folder = rank, path.parent
        self.way: dict[str, Any] = {}
        for name, value in json.loads(path.read_text()).items():
            setattr(self, name, value)

    addresses: list[str]  # of the machines, by rank
    port: int  # free on the first one, for what a way needs there
    steps: int
    every: int  # steps between looks at the model
    rate: float  # of the optimizer inside
    seed: int
    text: str
    counted: bool  # whether bytes of the interface are this job's alone
    model: dict[str, int]

    @property
    def workers(self) -> int:
        return len(self.addresses)

    @property
    def place(self) -> str:
        """HOST:PORT on the first machine."""
        return f"{self.addresses[0]}:{self.port}"

    def meet(self, name: str, said: str = "-") -> str:
        """Wait until all programs have said this; what the first one said."""
        mine = self.folder / f"{name}-{self.rank}"
        mine.with_suffix(".part").write_text(said)
        mine.with_suffix(".part").rename(mine)
        while not all((self.folder / f"{name}-{rank}").exists() for rank in range(self.workers)):
            time.sleep(0.005)
        return (self.folder / f"{name}-0").read_text()


def optimizers(model: nn.Module, job: Job) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for the matrices of layers and AdamW for the rest."""
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    inside = [value for name, value in named if value.dim() == 2 and "blocks" in name]
    if not job.way.get("muon"):
        inside = []
    rest = [value for _, value in named if all(value is not other for other in inside)]
    found: list[torch.optim.Optimizer] = []
    if inside:
        found.append(torch.optim.Muon(inside, job.way["muon"], momentum=0.95, weight_decay=0.1))
    found.append(torch.optim.AdamW(rest, job.rate, betas=(0.9, 0.99), weight_decay=0.1))
    for each in found:
        for group in each.param_groups:
            group["largest"] = group["lr"]
    return found


def scheduled(found: list[torch.optim.Optimizer], number: int, steps: int) -> None:
    """Rates of a step, from 0."""
    for group in (group for each in found for group in each.param_groups):
        group["lr"] = gpt.rate(number, steps, group["largest"])


def stepping(found: list[torch.optim.Optimizer]) -> Step:
    def step() -> None:
        for each in found:
            each.step()

    return step


# -- ways ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def by_ddp(job: Job, model: nn.Module, found: list[torch.optim.Optimizer]) -> Iterator[Ready]:
    """PyTorch's DistributedDataParallel over gloo, with a hook of PyTorch's where one is named."""
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

    dist.init_process_group("gloo", init_method=f"tcp://{job.place}", rank=job.rank, world_size=job.workers, timeout=_FOREVER)
    wrapped = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    if job.way["hook"] == "fp16":
        wrapped.register_comm_hook(None, default_hooks.fp16_compress_hook)
    elif job.way["hook"] == "power_sgd":
        state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=job.way["rank"], start_powerSGD_iter=2)
        wrapped.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    yield wrapped, stepping(found)
    dist.barrier()
    dist.destroy_process_group()


@contextlib.contextmanager
def by_torchft(job: Job, model: nn.Module, found: list[torch.optim.Optimizer]) -> Iterator[Ready]:
    """torchft's `DiLoCo` or `LocalSGD` over gloo: a group of replicas, one lighthouse on the first machine."""
    from torchft import Manager, ProcessGroupGloo
    from torchft._torchft import LighthouseServer
    from torchft.local_sgd import DiLoCo, LocalSGD

    here = job.addresses[job.rank]
    house = None
    if job.rank == 0:
        house = LighthouseServer(bind=job.place, min_replicas=job.workers, join_timeout_ms=60_000)
    stores: Any = dist  # which does not say that it shows them
    store = stores.TCPStore(here, 0, is_master=True, wait_for_workers=False)
    job.meet("lighthouse")
    manager = Manager(
        pg=ProcessGroupGloo(timeout=_FOREVER),
        load_state_dict=lambda state: None,
        state_dict=dict,
        min_replica_size=job.workers,
        use_async_quorum=False,
        init_sync=False,
        replica_id=f"replica_{job.rank}",
        store_addr=here,
        store_port=store.port,
        rank=0,
        world_size=1,
        lighthouse_addr=f"http://{job.place}",
        hostname=here,
        timeout=_FOREVER,
        quorum_timeout=_FOREVER,
    )
    last = found[-1]  # after whose step torchft counts
    if job.way["outer"] is None:
        context: Any = LocalSGD(manager, model, last, sync_every=job.way["period"])
    else:
        rate, momentum = job.way["outer"]
        outside = torch.optim.SGD(model.parameters(), rate, momentum=momentum, nesterov=momentum > 0)
        given = {"should_quantize": bool(job.way.get("quantised")), "use_bucketization": True}
        context = DiLoCo(manager, [model], last, outside, sync_every=job.way["period"], **given)
    with context:
        yield model, stepping(found)
    job.meet("leaving")
    manager.shutdown()
    if house is not None:
        house.shutdown()


@contextlib.contextmanager
def by_hivemind(job: Job, model: nn.Module, found: list[torch.optim.Optimizer]) -> Iterator[Ready]:
    """hivemind's `Optimizer` with local updates, whose states are averaged, behind the next steps or before them."""
    import hivemind
    from hivemind.compression import Float16Compression, NoCompression, Uniform8BitQuantization

    here = {"host_maddrs": [f"/ip4/{job.addresses[job.rank]}/tcp/0"], "start": True, "use_ipfs": False}
    if job.rank == 0:
        dht = hivemind.DHT(**here)
    peers = job.meet("first", json.dumps([str(each) for each in dht.get_visible_maddrs()]) if job.rank == 0 else "-")
    if job.rank != 0:
        dht = hivemind.DHT(initial_peers=json.loads(peers), **here)
    small = {"8 bits": Uniform8BitQuantization, "16 bits": Float16Compression, "32 bits": NoCompression}
    [inner] = found
    outer = hivemind.Optimizer(
        dht=dht,
        run_id="thin_links",
        optimizer=inner,
        batch_size_per_step=gpt.BATCH,
        target_batch_size=gpt.BATCH * job.workers * job.way["period"],
        use_local_updates=True,
        delay_state_averaging=job.way["delay"],
        state_averaging_compression=small[job.way["values"]](),
        matchmaking_time=job.way["matchmaking_s"],
        averaging_timeout=60.0,
        averager_opts={"target_group_size": job.workers, "request_timeout": job.way["matchmaking_s"] / 2},
        tracker_opts={"min_refresh_period": 0.1, "default_refresh_period": 0.2, "max_refresh_period": 1.0},
    )
    job.meet("joined")
    yield model, outer.step
    job.meet("leaving")
    outer.shutdown()
    dht.shutdown()


@contextlib.contextmanager
def by_link(job: Job, model: nn.Module, found: list[torch.optim.Optimizer]) -> Iterator[Ready]:
    """`saddlebag.join`."""
    import saddlebag

    link = saddlebag.join(job.place, model, None, method=job.way["method"], every=job.way["period"], rank=job.rank)
    link.begin()
    advance = stepping(found)

    def step() -> None:
        advance()
        link.step()

    with link:
        yield model, step


WAYS = {"ddp": by_ddp, "torchft": by_torchft, "hivemind": by_hivemind, "link": by_link}


# -- the loop ------------------------------------------------------------------------------------------------------------


def counters(job: Job) -> dict[str, int]:
    """Bytes that this machine's interface has sent and received; none where it is no machine of its own."""
    folder = Path("/sys/class/net") / os.environ["GLOO_SOCKET_IFNAME"] / "statistics"
    return {name: int((folder / f"{name}_bytes").read_text()) for name in ("tx", "rx")} if job.counted else {}


def run(job: Job) -> dict[str, Any]:
    """Train; what was seen on the way."""
    for name, value in job.model.items():
        setattr(gpt, name, value)
    torch.manual_seed(job.seed)
    data, held_out, letters = gpt.read(Path(job.text))
    model = gpt.Model(letters)
    judged = gpt.batch(held_out, torch.Generator().manual_seed(0), JUDGED)
    found, generator = optimizers(model, job), torch.Generator().manual_seed(1000 * job.seed + job.rank)
    history: list[dict[str, Any]] = []
    with WAYS[job.way["kind"]](job, model, found) as (module, step):
        job.meet("ready")
        before, begin, paused_s = counters(job), time.perf_counter(), 0.0
        for number in range(1, job.steps + 1):
            scheduled(found, number - 1, job.steps)
            model.zero_grad()
            gpt.loss_of(module, *gpt.batch(data, generator)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            step()
            if number % job.every == 0 or number == job.steps:
                stopped, now = time.perf_counter(), counters(job)
                with torch.no_grad():
                    loss = float(gpt.loss_of(model, *judged))
                sent = {name: now[name] - before[name] for name in now}
                history.append({"step": number, "seconds": stopped - begin - paused_s, "loss": loss, **sent})
                paused_s += time.perf_counter() - stopped
        job.meet("trained")
        total = {name: value - before[name] for name, value in counters(job).items()}
    return {"history": history, "total": total, "cpu_s": time.process_time()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--rank", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    job = Job(given.job, given.rank)
    (job.folder / f"result-{job.rank}.json").write_text(json.dumps(run(job)))
    sys.stdout.flush()
    os._exit(0)  # libraries' threads and daemons do not end by themselves


if __name__ == "__main__":
    main()
