"""The worst perturbation of a batch within a ball: projected gradient ascent (Madry et al. 2018), FGSM as its one step.

The losses on the way, with their graphs, are what FreeLB trains on (Zhu et al. 2020, Algorithm 1).

Shapes: B = a batch; the other axes are a sample's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

__all__ = ["ascend"]

Norm = Literal["linf", "l2"]


def climb(
    loss: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float,
    start: torch.Tensor | None = None,
    norm: Norm = "linf",
    low: float = -float("inf"),
    high: float = float("inf"),
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Perturb `x` towards a larger loss; yield for each step the loss before it and the point after it.

    The loss has its graph, so it can be differentiated in the parameters; the point is detached.

    Args:
        loss: of the perturbed batch, a scalar; a sum or a mean over samples that do not depend on each other.
        x: (B, ...) floats; inputs or embeddings.
        eps: radius of the ball around each sample.
        steps: ascent steps; each one gradient.
        step_size: of a step, in the norm: the gradient's sign (linf) or direction (l2).
        start: uniform numbers in [0, 1) of the shape of x, for a random start in the ball; None starts at x.
        norm: of the ball.
        low: with `high` a box that the perturbed samples stay in.
        high: see `low`.
    """
    import torch

    delta = torch.zeros_like(x)
    if start is not None:
        delta = _project((2.0 * start.to(x) - 1.0) * eps, eps, norm)
    for _ in range(steps):
        point = (x + delta).clamp(low, high).detach().requires_grad_()
        value = loss(point)
        (slope,) = torch.autograd.grad(value, point, retain_graph=True)  # freed with the value
        delta = advance(point.detach() - x, slope, eps=eps, step_size=step_size, norm=norm)
        yield value, (x + delta).clamp(low, high).detach()


def advance(delta: torch.Tensor, slope: torch.Tensor, *, eps: float, step_size: float, norm: Norm) -> torch.Tensor:
    """A perturbation after one step along the loss's gradient, back in the ball."""
    import torch

    move = slope.sign() if norm == "linf" else slope / _size(slope).clamp_min(torch.finfo(slope.dtype).tiny)
    return _project(delta + step_size * move, eps, norm)


def ascend(loss: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, **keys: Any) -> torch.Tensor:
    """The last point of `climb`.

    Example:
        >>> import torch
        >>> ascend(lambda x: x.sum(), torch.zeros(1, 2), eps=0.1, steps=3, step_size=0.1).tolist()
        [[0.10000000149011612, 0.10000000149011612]]
    """
    for _, point in climb(loss, x, **keys):
        x = point
    return x


def _size(x: torch.Tensor) -> torch.Tensor:
    """The l2 norm of each sample, with its axes kept."""
    import torch

    size: torch.Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return size.view(-1, *([1] * (x.dim() - 1)))


def _project(delta: torch.Tensor, eps: float, norm: Norm) -> torch.Tensor:
    import torch

    if norm == "linf":
        return delta.clamp(-eps, eps)
    return delta * (eps / _size(delta).clamp_min(max(eps, torch.finfo(delta.dtype).tiny)))
