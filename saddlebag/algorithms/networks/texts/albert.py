"""ALBERT by size (Lan et al. 2020): a configuration of the library transformers, random weights, and training games of it.

Shapes: B = a batch, T = tokens, E = coordinates of an embedding, D = parameters.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

from saddlebag.algorithms.networks.chance import seeded
from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.networks.texts.vocabulary import CLS, PAD, SEP, Vocabulary, require
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from saddlebag.compression import Vector

SAMPLES = 12
"""Held-out texts that a run ends with a table of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlbertShape:
    """A size: pieces of the vocabulary, coordinates of an embedding (E) and of the layers, and tokens of a row (T)."""

    vocabulary: int
    length: int
    embedding: int = 128
    hidden: int
    layers: int
    heads: int
    intermediate: int


SHAPES = {
    "tiny": AlbertShape(vocabulary=16384, length=64, hidden=256, layers=2, heads=4, intermediate=512),
    "small": AlbertShape(vocabulary=16384, length=128, hidden=384, layers=6, heads=6, intermediate=1536),
    "base": AlbertShape(vocabulary=30000, length=512, hidden=768, layers=12, heads=12, intermediate=3072),
    "large": AlbertShape(vocabulary=30000, length=512, hidden=1024, layers=24, heads=16, intermediate=4096),
}
"""By the key `size`: 2.7, 4.1, 11.7 and 17.7 million parameters; the last two are albert-base-v2 and albert-large-v2."""


Size: TypeAlias = str | dict[str, Any]
"""A key of `SHAPES`, or some of the numbers of an `AlbertShape`; those left out are of the size "tiny"."""


def shape_of(size: Size, vocabulary: int, length: int) -> AlbertShape:
    """The shape of a size, with another vocabulary or length where it is not 0.

    Raises:
        ConfigError: the size is unknown, a number of it is no number, or the length too small.

    Example:
        >>> shape_of({"hidden": 512, "heads": 8}, 0, 128)
        AlbertShape(vocabulary=16384, length=128, embedding=128, hidden=512, layers=2, heads=8, intermediate=512)
    """
    if isinstance(size, dict):
        shape = _by_numbers(size)
    else:
        check_choice("size", size, SHAPES)
        shape = SHAPES[size]
    shape = dataclasses.replace(shape, vocabulary=vocabulary or shape.vocabulary, length=length or shape.length)
    if shape.length < 4:
        raise ConfigError(f"length must be at least 4 tokens, got {shape.length}")
    return shape


def _by_numbers(size: dict[str, Any]) -> AlbertShape:
    known = [field.name for field in dataclasses.fields(AlbertShape)]
    for key, value in size.items():
        check_choice("a key of size", key, known)
        if type(value) is not int or value < 1:
            raise ConfigError(f"size.{key} must be a whole number of at least 1, got {value!r}")
    shape = dataclasses.replace(SHAPES["tiny"], **size)
    if shape.hidden % shape.heads:
        raise ConfigError(f"size.hidden must be a multiple of size.heads, got {shape.hidden} and {shape.heads}")
    return shape


def make_albert(head: str, shape: AlbertShape, *, pieces: int, dropout: float, seed: int, classes: int = 2) -> nn.Module:
    """A model of transformers with random weights, the same for the same seed.

    Args:
        head: "AlbertForMaskedLM" or "AlbertForSequenceClassification".
        shape: of the network.
        pieces: in the vocabulary.
        dropout: everywhere, probability.
        seed: of the weights.
        classes: of the classifier.

    Raises:
        ConfigError: transformers is not installed.
    """
    transformers = require("transformers", head)
    config = transformers.AlbertConfig(
        vocab_size=pieces,
        embedding_size=shape.embedding,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=shape.length,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        classifier_dropout_prob=dropout,
        num_labels=classes,
        pad_token_id=PAD,
        bos_token_id=CLS,
        eos_token_id=SEP,
    )
    with seeded(seed, "cpu"):  # the library draws weights from no other generator
        model: nn.Module = getattr(transformers, head)(config)
    return model


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AlbertGame(ModuleGame):
    """Training an ALBERT; `module` gives the model of transformers, `tokenizer` what belongs beside it.

    Attributes:
        vocabulary: of its tokens.
        length: of its rows.
        samples: model -> the table that `texts` shows.
        notes: see `HasNotes`.
    """

    vocabulary: Vocabulary
    length: int
    samples: Callable[[nn.Module], Sequence[tuple[str, ...]]]
    notes: tuple[str, ...] = ()

    def texts(self, z_D: Vector) -> dict[str, Sequence[tuple[str, ...]]]:
        """What the model at z says of some held-out texts: a table by name, whose first row is its heading."""
        with self.evaluation.at(z_D) as players:
            return {"samples": self.samples(players["model"])}

    @property
    def tokenizer(self) -> Any:
        """Of transformers, for `save_pretrained`."""
        return self.vocabulary.pretrained(self.length)
