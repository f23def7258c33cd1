"""Error and loss on held-out pictures, and which coordinates of a perceptron belong to which neuron.

Shapes: N = hidden neurons, D = weights, biases and one number for each neuron, W = weights and biases.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    import torch
    from torch import nn

    from saddlebag.algorithms.networks.images.pictures import Images
    from saddlebag.compression.payload import Vector


def check_hidden(hidden: Any) -> None:
    """Raise `ConfigError` unless these are the widths of some layers."""
    whole = isinstance(hidden, list | tuple) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in hidden)
    if not whole or not hidden:
        raise ConfigError(f"hidden must be a list of whole numbers of at least 1, neurons of each layer, got {hidden!r}")


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """Merits on held-out pictures: "error", the share of wrong classes, and "loss".

    Attributes:
        images: held out.
        scores: players and pictures to scores.
        dtype, device: of the networks.
    """

    images: Images
    scores: Callable[[Mapping[str, nn.Module], torch.Tensor], torch.Tensor]
    dtype: str
    device: str

    def __call__(self, players: Mapping[str, nn.Module]) -> dict[str, float]:
        import torch
        from torch.nn import functional

        x = torch.from_numpy(self.images.images_NHW).to(self.device, getattr(torch, self.dtype))
        y = torch.from_numpy(self.images.labels_N).to(self.device)
        with torch.no_grad():
            scores = self.scores(players, x)
        error = float((scores.argmax(1) != y).double().mean())
        return {"error": error, "loss": float(functional.cross_entropy(scores, y))}


@dataclasses.dataclass(frozen=True, eq=False)
class Owners:
    """Which coordinates of z = (weights and biases, one number for each neuron) hang on which neurons.

    Attributes:
        into_D, from_D: the neuron that a weight leads into and the one that it comes from, -1 for none; of a neuron's own
            number, itself and none.
        share_N: the share of the weights that hang on each neuron; a weight between two counts half for each.
        num_weights: W.
    """

    into_D: npt.NDArray[np.int64]
    from_D: npt.NDArray[np.int64]
    share_N: Vector
    num_weights: int

    @classmethod
    def of(cls, widths: Sequence[int]) -> Owners:
        """Of a `Perceptron` with these widths."""
        into, source, begin = [], [], 0
        for number, (a, b) in enumerate(itertools.pairwise(widths)):
            last = number == len(widths) - 2
            into_B = np.full(b, -1) if last else begin + np.arange(b)
            from_A = np.full(a, -1) if number == 0 else begin - a + np.arange(a)
            into += [np.repeat(into_B, a), into_B]
            source += [np.tile(from_A, b), np.full(b, -1)]
            begin += 0 if last else b
        into_W, from_W = np.concatenate(into), np.concatenate(source)
        hanging_W = (into_W >= 0).astype(float) + (from_W >= 0)
        counts = [np.bincount(of_W[of_W >= 0], 1.0 / hanging_W[of_W >= 0], begin) for of_W in (into_W, from_W)]
        own_N = np.arange(begin)
        return cls(
            np.concatenate([into_W, own_N]),
            np.concatenate([from_W, np.full(begin, -1)]),
            (counts[0] + counts[1]) / len(into_W),
            len(into_W),
        )

    def present(self, here_N: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Coordinates all of whose neurons are there, bool (D,)."""
        with_none_N = np.append(here_N, True)  # -1 is the last
        both_D: npt.NDArray[np.bool_] = with_none_N[self.into_D] & with_none_N[self.from_D]
        return both_D
