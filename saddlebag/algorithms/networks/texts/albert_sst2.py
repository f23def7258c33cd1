"""Classification of sentences by an ALBERT from random weights, or a model trained before; perturbations of its embeddings.

Shapes: N = sentences, B = a batch, T = tokens of a row, E = coordinates of an embedding.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.networks.chance import Chance
from saddlebag.algorithms.networks.texts.albert import SAMPLES, make_albert
from saddlebag.algorithms.networks.texts.pretrained import Pretrained  # noqa: TC001 (the keys' types are read at run time)
from saddlebag.algorithms.networks.texts.training import AlbertKeys, AlbertTraining
from saddlebag.algorithms.networks.texts.vocabulary import Tokens, Vocabulary
from saddlebag.algorithms.problems.data.shards import split_rows
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import nn

    from saddlebag.algorithms.networks.texts.albert import AlbertGame
    from saddlebag.algorithms.networks.texts.embeddings import EmbeddingAttack
    from saddlebag.algorithms.networks.texts.text import Sentences

__all__ = ["albert_sst2"]

_JUDGED_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Training(AlbertTraining):
    """`AlbertTraining` for sentences: SST-2's longest have about 70 tokens."""

    batch_size: int = 16
    length: int = 64
    dropout: float = 0.1
    judged: int = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class _Scores:
    """The classifier on one batch, its padding cut to what the longest sentence needs.

    Attributes:
        model: of transformers.
        ids_BT: int64, whole rows.
    """

    model: Any
    ids_BT: torch.Tensor

    @functools.cached_property
    def shown_BT(self) -> torch.Tensor:
        """Whether there is a token, cut."""
        shown_BT: torch.Tensor = self.ids_BT != self.model.config.pad_token_id
        return shown_BT[:, : int(shown_BT.sum(1).max())]

    def embeddings(self) -> torch.Tensor:
        """(B, T cut, E)."""
        e_BTE: torch.Tensor = self.model.get_input_embeddings()(self.ids_BT[:, : self.shown_BT.shape[1]])
        return e_BTE

    def __call__(self, e_BTE: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.model(inputs_embeds=e_BTE, attention_mask=self.shown_BT.long()).logits
        return scores

    def start(self, chance: Chance) -> torch.Tensor:
        """Where an ascent begins: nowhere at padding. Drawn for whole rows, so no sample's depends on its neighbours."""
        import torch

        whole_BTE = chance.uniform(self.ids_BT.shape[1], self.model.get_input_embeddings().embedding_dim)
        cut_BTE = whole_BTE[:, : self.shown_BT.shape[1]].to(self.ids_BT.device)
        return torch.where(self.shown_BT.unsqueeze(-1), cut_BTE, 0.5)


def _loss(
    players: Mapping[str, nn.Module], batch: tuple[torch.Tensor, ...], chance: Chance, *, attack: EmbeddingAttack
) -> torch.Tensor:
    """The mean cross-entropy."""
    from torch.nn import functional

    scores = _Scores(players["model"], batch[0].long())

    def value(e_BTE: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(scores(e_BTE), batch[1])

    return attack.loss(value, scores.embeddings(), lambda: scores.start(chance), *batch[2:])


@dataclasses.dataclass(frozen=True, eq=False)
class _Judge:
    """Errors and loss on held-out sentences; the error under attack first, where there is a radius.

    A sentence counts as wrong under attack if it is wrong at the point found or as it stands: no perturbation is
    in the ball, too, and an ascent from a random start may miss it.
    """

    rows_NT: Tokens
    labels_N: npt.NDArray[np.int64]
    attack: EmbeddingAttack
    device: str

    def __call__(self, players: Mapping[str, nn.Module]) -> dict[str, float]:
        count = len(self.labels_N)
        sums_3 = np.zeros(3)
        for begin in range(0, count, _JUDGED_AT_ONCE):
            sums_3 += self._batch(players["model"], slice(begin, min(begin + _JUDGED_AT_ONCE, count)))
        robust, clean, loss = (float(value) for value in sums_3 / count)
        return (
            {"robust_error": robust, "clean_error": clean, "loss": loss}
            if self.attack.eps
            else {"clean_error": clean, "loss": loss}
        )

    def _batch(self, model: nn.Module, part: slice) -> tuple[float, float, float]:
        """Sums: errors under attack, errors, losses."""
        import torch
        from torch.nn import functional

        y = torch.from_numpy(self.labels_N[part]).to(self.device)
        clean, robust = self._scores(model, part, y)
        wrong_B, attacked_B = clean.argmax(1) != y, robust.argmax(1) != y
        return (
            float((wrong_B | attacked_B).sum()),
            float(wrong_B.sum()),
            float(functional.cross_entropy(clean, y, reduction="sum")),
        )

    def _scores(self, model: nn.Module, part: slice, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of some sentences, as they stand and at the point that the attack finds."""
        import torch
        from torch.nn import functional

        scores = _Scores(model, torch.from_numpy(self.rows_NT[part]).long().to(self.device))
        with torch.no_grad():
            e_BTE = scores.embeddings()
            clean = scores(e_BTE)
        if not self.attack.eps:
            return clean, clean
        start = scores.start(Chance(0, len(self.labels_N), part))
        worst = self.attack.judging().worst(lambda point: functional.cross_entropy(scores(point), y), e_BTE, start)
        with torch.no_grad():
            return clean, scores(worst)

    def samples(self, model: nn.Module, vocabulary: Vocabulary) -> list[tuple[str, ...]]:
        """Some sentences with their classes and what the model gives them; under attack, too, where there is a radius."""
        import torch

        heading = ("held-out sentence", "class", "probability of it", "under attack")
        table: list[tuple[str, ...]] = [heading if self.attack.eps else heading[:-1]]
        for row in np.linspace(0, len(self.labels_N) - 1, min(SAMPLES, len(self.labels_N))).astype(int):
            label = int(self.labels_N[row])
            both = self._scores(model, slice(row, row + 1), torch.tensor([label], device=self.device))
            given = [f"{float(scores[0].softmax(-1)[label]):.2f}" for scores in both]
            cells = (vocabulary.shown(self.rows_NT[row]), str(label), *given)
            table.append(cells[: len(table[0])])
        return table


@dataclasses.dataclass(frozen=True, eq=False)
class _Network:
    """What sentences are read with, and by: the vocabulary, what makes the model, its rows' length, and E."""

    vocabulary: Vocabulary
    make: Callable[[], nn.Module]
    length: int
    embedding: int
    notes: tuple[str, ...] = ()


def _told(data: Sentences, training: AlbertTraining) -> dict[str, Any]:
    """What any model is made with."""
    return {"dropout": training.dropout, "seed": training.seed, "classes": data.num_classes}


def _from_random(data: Sentences, training: AlbertTraining) -> _Network:
    """An ALBERT of the size asked for, and pieces learned from the sentences."""
    shape = training.shape
    learned = Vocabulary.of(data.train, shape.vocabulary, user="albert_sst2", remember=data.remember)
    keys: dict[str, Any] = {"pieces": learned.size, **_told(data, training)}
    make = functools.partial(make_albert, "AlbertForSequenceClassification", shape, **keys)
    return _Network(learned, make, shape.length, shape.embedding)


def _from_weights(init: Pretrained, data: Sentences, training: AlbertTraining) -> _Network:
    """The model and the tokenizer of a folder."""
    if training.vocabulary or training.size != AlbertTraining.size:
        raise ConfigError(f"size and vocabulary do not apply: the weights of {init.name!r} have their own")
    make = functools.partial(init.model, "AutoModelForSequenceClassification", **_told(data, training))
    vocabulary, (model, new), length = init.vocabulary(), make(), training.length
    longest = init.config.get("max_position_embeddings", length)
    if not 4 <= length <= longest:
        raise ConfigError(f"length must lie in 4..{longest} tokens, which the weights of {init.name!r} are for, got {length}")
    note = f"weights of {init.name!r}; new are {', '.join(new)}" if new else f"weights of {init.name!r}, all of them"
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    return _Network(vocabulary, lambda: make()[0], length, embeddings.embedding_dim, (note,))


def albert_sst2(
    data: Sentences | None, *, num_workers: int, init: str | Pretrained = "", **keys: Unpack[AlbertKeys]
) -> AlbertGame:
    """The problem; merits on the held-out sentences: robust_error (PGD-10) where eps is above 0, clean_error, loss.

    Args:
        data: sentences with classes.
        num_workers: among whom they are divided.
        init: path of a folder of weights that somebody trained before, of any model that transformers can classify texts with:
            config.json, safetensors and tokenizer.json; random weights and pieces learned from the sentences without it.
        **keys: see `AlbertTraining`.

    Raises:
        ConfigError: there are no sentences, a parameter is out of range, or a package is missing.

    Example:
        >>> from saddlebag.algorithms.networks.texts.text import Sentences
        >>> said, classes = tuple(f"a {word} meal" for word in ("fine", "bland")) * 20, (1, 0) * 20
        >>> data = Sentences("meals", said, classes, said[:4], classes[:4])
        >>> albert_sst2(data, num_workers=2, length=8, batch_size=2, vocabulary=80, seed=0).num_workers
        2
    """
    if data is None:
        raise ConfigError("albert_sst2 needs sentences; add a data section whose source is the path of SST-2's folder or file")
    training = _Training(**keys)
    if isinstance(init, str):
        if init:
            raise ConfigError(f"init must be what `read_pretrained` gives, got the path {init!r}")
        network = _from_random(data, training)
    else:
        network = _from_weights(init, data, training)
    learned = network.vocabulary
    labels_N, dev_labels_N = np.array(data.train_labels, np.int64), np.array(data.dev_labels, np.int64)
    rows_NT = learned.remembered("rows", data.train, network.length, data.remember)
    shards = split_rows(labels_N.astype(np.float64), num_workers, split=training.split, seed=training.seed)
    kept_N = training.kept(len(dev_labels_N))
    dev_NT = learned.rows([data.dev[row] for row in kept_N], network.length)
    by_length_N = np.argsort((dev_NT != learned.pad).sum(1), kind="stable")  # batches of equals carry little padding
    return training.game(
        f"albert_sst2 on {data.name}",
        network.make,
        _loss,
        tuple((rows_NT[shard], labels_N[shard]) for shard in shards),
        _Judge(dev_NT[by_length_N], dev_labels_N[kept_N][by_length_N], training.disturbance, training.device),
        learned,
        length=network.length,
        embedding=network.embedding,
        notes=network.notes,
    )


albert_sst2.reads = "sentences"  # type: ignore[attr-defined]
albert_sst2.weights = "init"  # type: ignore[attr-defined]
albert_sst2.defaults = _Training  # type: ignore[attr-defined]
