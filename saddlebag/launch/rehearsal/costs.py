"""What a round costs: recorded from real cores of a few workers, and measured on the server's real core with all of them."""

from __future__ import annotations

import dataclasses
import itertools
import random
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.compression import SERVER, Draws
from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.codec import decode
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.proto.handshake import PROTOCOL, JoinAsk
from saddlebag.proto.seal import SEAL_BYTES
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server.saved import capture

if TYPE_CHECKING:
    from saddlebag.client.core import WorkerCore
    from saddlebag.launch.job import Job
    from saddlebag.server.core import ServerCore

__all__ = ["Recording", "RoundCost", "ServerCosts", "join_bytes", "measure_server", "record", "save_seconds"]


@dataclasses.dataclass(frozen=True)
class RoundCost:
    """One round as it was recorded.

    Attributes:
        everybody: whether all workers took part.
        up_bytes, down_bytes: frames of one participant, in the mean; those down with what it had missed.
        up_payload, down_payload: the messages in them.
    """

    everybody: bool
    up_bytes: float
    down_bytes: float
    up_payload: float
    down_payload: float


@dataclasses.dataclass(frozen=True)
class Recording:
    """Some rounds of a job with few workers.

    Attributes:
        rounds: in order.
        step_s: processor seconds of a worker's step, in the mean.
        participants: in a round in which not all take part; None where there is none.
        frame_data: message bytes of the first uplink, for measurements.
    """

    rounds: tuple[RoundCost, ...]
    step_s: float
    participants: int | None
    frame_data: bytes


def _join(core: ServerCore, worker: WorkerCore, recipe: str) -> None:
    ask = JoinAsk(worker=worker.worker, recipe=recipe, dimension=worker.dimension, rounds=(0,))
    worker.members = core.join(ask, f"session {worker.worker}", 0.0)[0].members


def join_bytes(job: Job, workers: int) -> tuple[int, int]:
    """The bytes of joining a run of so many workers, up and down: the reply names the members."""
    core, recipe = job.server_core(0.0, num_workers=workers), job.recipe.canonical()
    dimension = len(job.problem.start())
    ask = JoinAsk(worker=0, recipe=recipe, dimension=dimension, rounds=(0,))
    reply = pb.JoinReply(protocol=PROTOCOL, **dataclasses.asdict(core.join(ask, "0" * 32, 0.0)[0]))
    request = pb.JoinRequest(protocol=PROTOCOL, worker=0, recipe=recipe, dimension=dimension, rounds=[0])
    return request.ByteSize() + SEAL_BYTES, reply.ByteSize() + SEAL_BYTES


def _bring(core: ServerCore, worker: WorkerCore) -> tuple[int, int]:
    """Hand a worker what is due to it; returns (frame bytes, message bytes)."""
    frame_bytes = data_bytes = 0
    while (delivery := core.delivery(worker.worker, worker.round)) is not None:
        data = b"".join(bytes(read_frame(frame).data) for frame in delivery.frames)
        worker.ensure_stepped()
        round_, sizes = (delivery.end, worker.catch_up_sizes()) if delivery.jump else (worker.round, worker.downlink_sizes())
        worker.take(round_, decode(data, sizes, Draws(worker.draws.seed, round_, SERVER)))
        frame_bytes += sum(map(len, delivery.frames))
        data_bytes += len(data)
    return frame_bytes, data_bytes


def record(job: Job, rounds: int) -> Recording:
    """Up to so many rounds with the job's workers, joined in memory; fewer where the run ends before."""
    core = job.server_core(0.0, checkpoint_every=0)
    workers = [job.worker_core(rank) for rank in range(job.recipe.workers)]
    for worker in workers:
        _join(core, worker, job.recipe.canonical())
    found: list[RoundCost] = []
    step_s, steps, first, least = 0.0, 0, b"", len(workers)
    while core.finished is None and len(found) < rounds:
        active, up, down = core.active, [0, 0], [0, 0]
        least = min(least, len(active))
        for rank in active:
            worker = workers[rank]
            down = [a + b for a, b in zip(down, _bring(core, worker), strict=True)]
            began = time.perf_counter()
            buffers, digest = worker.step()
            step_s, steps = step_s + time.perf_counter() - began, steps + 1
            first = first or b"".join(buffers)
            about: dict[str, Any] = {"epoch": worker.epoch, "round_": worker.round, "sender": rank + 1}
            for frame in frames_of(buffers, **about, digest=digest):
                up = [up[0] + len(frame), up[1] + len(read_frame(frame).data)]
                core.frame(rank, frame, 0.0)
        core.finish_round(0.0)
        count = len(active)
        found.append(RoundCost(count == len(workers), up[0] / count, down[0] / count, up[1] / count, down[1] / count))
    participants = least if least < len(workers) else None
    return Recording(tuple(found), step_s / max(1, steps), participants, first)


@dataclasses.dataclass(frozen=True)
class ServerCosts:
    """What a server with all workers takes on this machine, without gRPC.

    Attributes:
        workers: with which it was measured.
        frame_s: processor seconds for an uplink of one worker: parsing, decoding, adding.
        round_s: for the end of a round.
        bytes: memory of the core in the middle of a round in which uplinks came in no order.
    """

    workers: int
    frame_s: float
    round_s: float
    bytes: int


def measure_server(job: Job, recording: Recording, workers: int, seed: int) -> ServerCosts | None:
    """One round of the real core with so many workers, all of which send the first recorded uplink, in a drawn order.

    None where a message of few workers is none of many: a compressor whose law is one of all workers together.
    """
    tracemalloc.start()
    try:
        _one_round(job, recording, workers, seed)
        _, peak = tracemalloc.get_traced_memory()
    except RemoteProtocolError:
        return None
    finally:
        tracemalloc.stop()
    frame_s, round_s, count = _one_round(job, recording, workers, seed)
    return ServerCosts(workers, frame_s / count, round_s, peak)


def save_seconds(job: Job) -> float:
    """Seconds for which a round waits until its checkpoint is on disk, here in the temporary folder; 0 where it need not."""
    save = capture(job.server_core(0.0))
    if not save.at_once:
        return 0.0
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        CheckpointStore(Path(folder), "server", keep=1).save(save.round, save.arrays, save.meta)
        return time.perf_counter() - began


def _one_round(job: Job, recording: Recording, workers: int, seed: int) -> tuple[float, float, int]:
    """Seconds of all frames and of the end of a round, and how many took part."""
    core = job.server_core(0.0, num_workers=workers, checkpoint_every=0)
    active = list(core.active)
    random.Random(seed).shuffle(active)
    frames = {
        rank: list(frames_of([recording.frame_data], epoch=0, round_=0, sender=rank + 1, digest=core.replica_digest))
        for rank in active
    }
    began = time.perf_counter()
    for rank, frame in itertools.chain.from_iterable(((rank, frame) for frame in frames[rank]) for rank in active):
        core.frame(rank, frame, 0.0)
    middle = time.perf_counter()
    core.finish_round(0.0)
    return middle - began, time.perf_counter() - middle, len(active)
