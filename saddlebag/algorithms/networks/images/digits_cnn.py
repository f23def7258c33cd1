"""Adversarial training of a small convolutional network on pictures, see `adversarial.py`.

Shapes: H x W = pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from saddlebag.algorithms.networks.images.adversarial import AdversarialKeys, AdversarialTraining
from saddlebag.algorithms.problems.data.given import require_pictures
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from torch import nn

    from saddlebag.algorithms.networks.game import ModuleGame
    from saddlebag.algorithms.networks.images.pictures import Images

__all__ = ["digits_cnn"]

_LEAST = 4  # pixels a side: two convolutions halve them


def digits_cnn(data: Images | None, *, num_workers: int, size: str = "small", **keys: Unpack[AdversarialKeys]) -> ModuleGame:
    """The problem; held-out pictures give its merits: robust_error (PGD), clean_error, loss.

    Args:
        data: pictures with labels.
        num_workers: among whom those that do not judge are divided.
        size: of the network, see `convolutional.SHAPES`.
        **keys: see `AdversarialTraining`.

    Raises:
        ConfigError: there are no pictures, or a parameter is out of range.

    Example:
        >>> import numpy as np
        >>> from saddlebag.algorithms.networks.images.pictures import Images
        >>> pictures = Images("noise", np.random.default_rng(0).random((40, 8, 8), np.float32), np.arange(40) % 10)
        >>> digits_cnn(pictures, num_workers=2, batch_size=4, size="small", seed=0).num_workers
        2
    """
    from saddlebag.algorithms.networks.images.convolutional import SHAPES, convolutional

    data = require_pictures("digits_cnn", data)
    check_choice("size", size, SHAPES)
    high, wide = data.images_NHW.shape[1:]
    if min(high, wide) < _LEAST:
        raise ConfigError(f"digits_cnn needs pictures of at least {_LEAST} x {_LEAST} pixels, got {high} x {wide}")
    training = AdversarialTraining(**keys)

    def model() -> nn.Module:
        return convolutional(high, wide, shape=SHAPES[size], seed=training.seed)

    return training.game("digits_cnn", model, data, num_workers=num_workers)


digits_cnn.reads = "images"  # type: ignore[attr-defined]
