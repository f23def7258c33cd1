"""`saddlebag.join`: a program with a training loop of its own takes part in a run."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Literal

import torch

from saddlebag.client.link.link import Link
from saddlebag.client.link.vector import ModelVector
from saddlebag.errors import ConfigError, check_choice
from saddlebag.launch.link.connection import LinkConnection
from saddlebag.launch.link.terms import Terms
from saddlebag.proto.endpoint import ClientSecurity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["RANK", "join"]

RANK = "SADDLEBAG_RANK"
"""The environment's name for a program's number, where `join` is not told."""
_NODE = "GROUP_RANK"  # torchrun's number of a node
_LOG = logging.getLogger("saddlebag.link")


def join(
    address: str,
    model: torch.nn.Module,
    optimizer: Any | None = None,
    *,
    method: str | Mapping[str, Any] = "sparse_loco",
    every: int = 30,
    rank: int | None = None,
    buffers: Literal["keep", "average"] = "keep",
    hook: bool = False,
    token: str = "",
    security: ClientSecurity | None = None,
    give_up_s: float = 600.0,
    note: Callable[[str], None] = _LOG.info,
) -> Link:
    """Link a training loop with those of other programs, through a server that `saddlebag host` runs.

    Call `step` after each step of the optimizer and `finish` at the end, or use the link as a context. Nothing is connected
    before the model's first forward pass.

    Args:
        address: HOST:PORT of the server.
        model: a module, compiled or not, in a `DistributedDataParallel` or not; its parameters are set to the run's.
        optimizer: whose parameters travel; without one all that require a gradient.
        method: "sparse_loco", "diloco", "local_average" or "muloco", or a table such as a recipe's [method], with compressors.
        every: steps between exchanges; 1 exchanges after every step.
        rank: number of this program, from 0; without it $SADDLEBAG_RANK, or torchrun's number of this node.
        buffers: floating buffers (batch normalisation) stay each program's own, or are averaged.
        hook: whether the optimizer's own steps are counted, in place of calls of `step`: one line for loops that others wrote,
            such as those of Accelerate, whose optimizers are seen through.
        token: the server's secret.
        security: TLS files.
        give_up_s: how long a server that is gone is waited for.
        note: told what a person may want to know, such as a lost connection.

    Raises:
        ConfigError: an argument is out of range, or the model is one that cannot be linked.

    Example:
        >>> link = join("server:7070", model, optimizer, method="sparse_loco", every=30)  # doctest: +SKIP
        >>> for batch in loader:  # doctest: +SKIP
        ...     loss(model, batch).backward()
        ...     optimizer.step()
        ...     link.step()
        >>> link.finish()  # doctest: +SKIP
    """
    check_choice("buffers", buffers, ("keep", "average"))
    number = _rank() if rank is None else rank
    if type(number) is not int or not 0 <= number < 1 << 16:
        raise ConfigError(f"rank must lie in [0, 65536), got {number!r}")
    vector = ModelVector(model, optimizer, buffers=buffers == "average")
    terms = Terms.of(method, every, vector.parameters, vector.buffers)
    given: dict[str, Any] = {"token": token, "security": security or ClientSecurity(), "give_up_s": give_up_s, "note": note}
    link = Link(model, vector, LinkConnection(terms, address, number, **given), every=every)
    if hook:
        _count_steps(link, optimizer)
    return link


def _count_steps(link: Link, optimizer: Any) -> None:
    """Every step of the optimizer is one of the link's.

    Raises:
        ConfigError: it has no hooks.
    """
    inner = getattr(optimizer, "optimizer", optimizer)  # of Accelerate's, which skip steps while gradients are accumulated
    if not isinstance(inner, torch.optim.Optimizer):
        raise ConfigError(f"hook needs an optimizer of torch, got {type(optimizer).__name__}; call link.step after each step")

    def stepped(optimizer: Any, args: Any, kwargs: Any) -> None:
        if not link.over:
            link.step()

    inner.register_step_post_hook(stepped)


def _rank() -> int:
    for name in (RANK, _NODE):
        if (text := os.environ.get(name, "")) != "":
            if not text.isdecimal():
                raise ConfigError(f"{name} must be a whole number, got {text!r}")
            return int(text)
    raise ConfigError(f"rank is missing: give join a rank from 0, or set {RANK}")
