"""One worker made of the ranks of a node: `torchrun --nproc-per-node R -m saddlebag node RECIPE --server HOST:PORT`.

Works in a torchrun of its own on every node (`--worker N` says which worker it is) and in one torchrun over several nodes (then
the node's number is torchrun's). Ranks meet those of their own node only. After a restart by torchrun's agent the leader comes
back from its checkpoint (`--out`) or the server's snapshot; other ranks have no state.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.capabilities import RunsOnDevice
from saddlebag.algorithms.problems.division import part_of
from saddlebag.errors import ConfigError
from saddlebag.launch.build import build_problem
from saddlebag.launch.drivers.place import Place, end_with_agent, here
from saddlebag.proto.address import parse_address
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from saddlebag.client.group import NodeGroup
    from saddlebag.launch.recipe.recipe import Recipe
    from saddlebag.proto.endpoint import ClientSecurity

__all__ = ["run_node"]

_REFUSED, _FAILED = 2, 1


def run_node(
    recipe: Recipe,
    worker: int | None,
    address: str,
    *,
    out: Path | None = None,
    token: str = "",
    security: ClientSecurity | None = None,
    timeout_s: float = 600.0,
    note: Callable[[str], None] = lambda text: None,
) -> int:
    """Take part as one rank of a node until the end of the run; returns the exit status that the node's leader gives.

    Args:
        recipe: the server's; its `ranks`, unless 1, must be the node's.
        worker: which one the node is; None for the node's number in torchrun's job.
        address: of the server; of several (`server.shards`) all, with commas.
        out: folder of the leader's checkpoints and of its report, node-N.json.
        token: shared with the server.
        security: TLS files.
        timeout_s: how long a rank may be busy before the others take it for lost.
        note: told what a person should know; by the leader alone.

    Raises:
        ConfigError: torchrun did not start this, the number is out of range, or the problem cannot be divided.
        PeerLost: there is no server, or a rank of this node is gone.
    """
    addresses = address.split(",")
    for each in addresses:
        parse_address(each, "the server's address")
    place = here()
    worker = _number(worker, place, recipe)
    end_with_agent()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")  # ranks of a node share a machine
    problem: Any = build_problem(recipe, whole=True, out=out)
    part = part_of(problem, worker, place.local_rank, place.local_ranks)
    device = _device(problem, place)

    from saddlebag.client.group import NodeGroup, process_group  # here, for torch

    shared: dict[str, Any] = {"timeout_s": timeout_s, "device": device}
    store = place.node_store(timeout_s)
    with process_group(store, rank=place.local_rank, ranks=place.local_ranks, **shared) as ranks:
        group = NodeGroup(ranks, **shared)
        if place.local_rank:
            return group.follow(part, problem.dimension)

        note(f"worker {worker}: {group.ranks} ranks on {device} ask the server at {address}")
        with _led(group):
            ways: dict[str, Any] = {"out": out, "token": token, "security": security, "note": note}
            _work(recipe, worker, addresses, problem=problem, operator=group.operator(part), **ways)
        _report(group, worker, out, note)
    return 0


def _work(recipe: Recipe, worker: int, addresses: list[str], **ways: Any) -> None:
    """Take part as the node's leader, of one server or of several."""
    if recipe.server.shards > 1:
        from saddlebag.launch.drivers.shards import run_shard_worker  # here, for grpc

        run_shard_worker(recipe, worker, addresses, **ways)
        return
    from saddlebag.launch.drivers.worker import run_worker

    run_worker(recipe, worker, ",".join(addresses), **ways)


@contextlib.contextmanager
def _led(group: NodeGroup) -> Iterator[None]:
    """The leader's work; at its end the other ranks hear with which status they are to end."""
    status = _FAILED
    try:
        yield
        status = 0
    except Exception:  # that of this process, which has told it
        status = _REFUSED
        raise
    finally:
        group.stop(status)


def _number(worker: int | None, place: Place, recipe: Recipe) -> int:
    """Which worker this node is."""
    if worker is None and place.nodes == 1 and recipe.workers > 1:
        raise ConfigError(f"the recipe has {recipe.workers} workers and torchrun one node: say with --worker which one this is")
    worker = place.node if worker is None else worker
    if not 0 <= worker < recipe.workers:
        raise ConfigError(f"worker must lie in [0, {recipe.workers}), the recipe's workers, got {worker}")
    if recipe.ranks not in (1, place.local_ranks):
        raise ConfigError(f"the recipe has ranks = {recipe.ranks}, and torchrun started {place.local_ranks} on this node")
    return worker


def _device(problem: Any, place: Place) -> str:
    """Where the node's vectors are added up: on the GPU of this rank where the problem computes on GPUs."""
    import torch

    if torch.device(problem.device if isinstance(problem, RunsOnDevice) else "cpu").type != "cuda":
        return "cpu"
    if place.local_ranks > torch.cuda.device_count():
        raise ConfigError(f"{place.local_ranks} ranks need a GPU each, and this node has {torch.cuda.device_count()}")
    torch.cuda.set_device(place.local_rank)
    return f"cuda:{place.local_rank}"


def _report(group: NodeGroup, worker: int, out: Path | None, note: Callable[[str], None]) -> None:
    """Where the time of the operator went; that of the rounds is the worker's business."""
    facts = {
        "worker": worker,
        "ranks": group.ranks,
        "evaluations": group.evaluations,
        "evaluate_s": round(group.evaluate_s, 3),
        "inside_s": round(group.exchange_s, 3),
    }
    if out is not None:
        write_atomically(out / f"node-{worker}.json", (json.dumps(facts, indent=2) + "\n").encode())
    share = group.exchange_s / ((group.evaluate_s + group.exchange_s) or 1.0)
    note(f"worker {worker}: {100 * share:.0f} % of the time in the operator passed between its {group.ranks} ranks")
