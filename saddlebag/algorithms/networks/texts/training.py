"""What trainings of an ALBERT are told alike, and the game that follows from it."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np

from saddlebag.algorithms.networks.adversary import Norm  # noqa: TC001 (the keys' types are read at run time)
from saddlebag.algorithms.networks.texts.albert import AlbertGame, AlbertShape, Size, shape_of
from saddlebag.algorithms.networks.texts.embeddings import EmbeddingAttack, TextAttack
from saddlebag.algorithms.networks.training import Training, TrainingKeys
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from saddlebag.algorithms.networks.texts.vocabulary import Vocabulary
    from saddlebag.compression.payload import Index


class TextJudge(Protocol):
    """Merits of a model on held-out texts, and some of these for people."""

    def __call__(self, players: Mapping[str, nn.Module]) -> dict[str, float]: ...

    def samples(self, model: nn.Module, vocabulary: Vocabulary) -> list[tuple[str, ...]]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlbertTraining(Training):
    """Keys of a recipe, with their defaults.

    Attributes:
        batch_size: rows of a worker in a round; 0 for all that it has.
        length: tokens of a row; longer texts are cut, and 0 is that of the size.
        dropout: everywhere, probability.
        judged: held-out rows that judge, at most.
        size: of the network: a name of `albert.SHAPES`, or its numbers, such as { hidden = 1024, layers = 12, heads = 16 }.
        vocabulary: pieces; 0 for those of the size.
        attack: on the embeddings, see `EmbeddingAttack`.
        eps: its radius; also of the attack that judges.
        norm: of the radius.
        attack_steps: of the ascent.
        replays: rounds that a batch is kept for; of two at least where the attack is "free".
    """

    batch_size: int = 8
    length: int = 0
    dropout: float = 0.0
    judged: int = 256
    size: Size = "tiny"
    vocabulary: int = 0
    attack: TextAttack = "none"
    eps: float = 0.0
    norm: Norm = "l2"
    attack_steps: int = 3
    replays: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1 or self.judged < 1:
            raise ConfigError(f"dropout must lie in [0, 1) and judged be at least 1, got {self.dropout} and {self.judged}")
        if self.attack == "free" and self.replays < 2:
            raise ConfigError(
                f"attack 'free' moves its perturbations once in a round; set replays to 2 or more, got {self.replays}"
            )

    @property
    def shape(self) -> AlbertShape:
        """Of the network.

        Raises:
            ConfigError: the size is unknown, or a number out of range.
        """
        return shape_of(self.size, self.vocabulary, self.length)

    @property
    def disturbance(self) -> EmbeddingAttack:
        """The attack.

        Raises:
            ConfigError: a parameter of it is out of range.
        """
        return EmbeddingAttack(attack=self.attack, eps=self.eps, norm=self.norm, steps=self.attack_steps)

    def kept(self, held: int) -> Index:
        """Which of so many held-out rows judge: spread over all of them, at most `judged`."""
        return np.linspace(0, held - 1, min(self.judged, held)).astype(np.int64)

    def game(
        self,
        name: str,
        model: Callable[[], nn.Module],
        loss: Callable[..., Any],
        data: Sequence[Any],
        judge: TextJudge,
        vocabulary: Vocabulary,
        *,
        length: int,
        embedding: int,
        notes: tuple[str, ...] = (),
    ) -> AlbertGame:
        """The problem of training one model.

        Args:
            name: for people.
            model: makes it.
            loss: (players, batch, chance, attack=...) -> the mean loss over the batch.
            data: for each worker arrays with one row a sample.
            judge: gives the merits.
            vocabulary: of the rows.
            length: of the rows, T.
            embedding: coordinates of one, E.
            notes: for people, see `HasNotes`.
        """
        attack = dataclasses.replace(self.disturbance, pad=vocabulary.pad)
        return AlbertGame(
            build=lambda: {"model": model()},
            loss=functools.partial(loss, attack=attack),
            data=data,
            local=attack.local(length, embedding),
            replays=self.replays,
            **self.computing,
            evaluate=judge,
            samples=functools.partial(judge.samples, vocabulary=vocabulary),
            vocabulary=vocabulary,
            length=length,
            notes=notes,
            name=name,
        )


class AlbertKeys(TrainingKeys, total=False):
    """`AlbertTraining` as keys."""

    length: Annotated[int, AlbertTraining]
    dropout: Annotated[float, AlbertTraining]
    judged: Annotated[int, AlbertTraining]
    size: Annotated[Size, AlbertTraining]
    vocabulary: Annotated[int, AlbertTraining]
    attack: Annotated[TextAttack, AlbertTraining]
    eps: Annotated[float, AlbertTraining]
    norm: Annotated[Norm, AlbertTraining]
    attack_steps: Annotated[int, AlbertTraining]
    replays: Annotated[int, AlbertTraining]
