"""What combinators share: inner compressors given as tables of a recipe, and draws of their own for each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from saddlebag.compression.base import Absolute, Compressor, Contractive, Unbiased
from saddlebag.compression.registry import make_compressor
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

Inner: TypeAlias = Compressor | Mapping[str, Any]
"""A compressor, or a table with `name` and its parameters."""

_MULTIPLIER, _INCREMENT = 0x5851_F42D_4C95_7F2D, 0x1405_7B7E_F767_814F  # Knuth's MMIX generator


def as_compressor(value: Inner, path: str) -> Compressor:
    """The compressor that a table describes, or the one that is given.

    Raises:
        ConfigError: it is neither, or cannot be made; the message starts with `path`.
    """
    if isinstance(value, Mapping):
        if not isinstance(value.get("name"), str):
            raise ConfigError(f"{path}.name is missing; a compressor is a table such as {{ name = 'block_int8' }}")
        try:
            return make_compressor(**value)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    if not isinstance(value, Unbiased | Contractive | Absolute):
        raise ConfigError(f"{path} must be a compressor or a table that names one, got {value!r}")
    return value


def independent_draws(draws: Draws, number: int) -> Draws:
    """Draws whose streams are independent of those of `draws`, and of other numbers: those of another run seed.

    Two compressors in one message must not round with the same bits, or what is unbiased alone is biased together. What a
    receiver draws again, a seeded support, needs the draws as they are.
    """
    return dataclasses.replace(draws, seed=(draws.seed * _MULTIPLIER + number * _INCREMENT) % 2**64)
