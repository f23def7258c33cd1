"""Adversarial training of a vision transformer on pictures, see `adversarial.py`.

Shapes: H x W = pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from saddlebag.algorithms.networks.images.adversarial import AdversarialKeys, AdversarialTraining
from saddlebag.algorithms.problems.data.given import require_pictures
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from saddlebag.algorithms.networks.game import ModuleGame
    from saddlebag.algorithms.networks.images.pictures import Images

__all__ = ["digits_transformer"]


def _sides(data: Images, patch: int) -> tuple[int, int]:
    """Of a picture, and of a patch."""
    high, wide = data.images_NHW.shape[1:]
    side = patch or max(high // 7, 2)
    if high != wide or high % side:
        raise ConfigError(f"patch must divide the side of square pictures, got {side} for {(high, wide)}")
    return high, side


def digits_transformer(
    data: Images | None,
    *,
    num_workers: int,
    size: str = "tiny",
    patch: int = 0,
    dropout: float = 0.0,
    **keys: Unpack[AdversarialKeys],
) -> ModuleGame:
    """The problem; a fifth of the pictures is held out for its merits: robust_error (PGD-20), clean_error, loss.

    Args:
        data: pictures with labels.
        num_workers: among whom the others are divided.
        size: of the network, see `vision.SHAPES`.
        patch: side of a patch; 0 for a quarter (8 pixels) to a seventh (28) of the picture's.
        dropout: after the embedding.
        **keys: see `AdversarialTraining`.

    Raises:
        ConfigError: there are no pictures, or a parameter is out of range.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("digits_transformer", data="digits", workers=2, batch_size=8, attack="fgsm")
        >>> game.dimension, game.num_workers
        (18154, 2)
    """
    from saddlebag.algorithms.networks.images.vision import SHAPES, VisionTransformer

    data = require_pictures("digits_transformer", data)
    check_choice("size", size, SHAPES)
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout must lie in [0, 1), got {dropout}")
    training = AdversarialTraining(**keys)
    pixels, side = _sides(data, patch)

    def model() -> VisionTransformer:
        return VisionTransformer(pixels, patch=side, shape=SHAPES[size], dropout=dropout, seed=training.seed)

    return training.game("digits_transformer", model, data, num_workers=num_workers)


digits_transformer.reads = "images"  # type: ignore[attr-defined]
