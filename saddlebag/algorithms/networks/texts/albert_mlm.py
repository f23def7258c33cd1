"""Pre-training of an ALBERT on a corpus: tell the masked words from the others (Devlin et al. 2019).

Of every row 15 % of the places are chosen, from the round's key; of those 80 % show [MASK], 10 % a random piece and 10 % what
was there. The same number of places in every row, so the mean over parts of a batch is the mean over the batch.

Shapes: N = rows, B = a batch, T = tokens of a row, E = coordinates of an embedding, P = chosen places of a row.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from saddlebag.algorithms.networks.chance import Chance
from saddlebag.algorithms.networks.texts.albert import SAMPLES, make_albert
from saddlebag.algorithms.networks.texts.training import AlbertKeys, AlbertTraining
from saddlebag.algorithms.networks.texts.vocabulary import MASK, SPECIAL, Tokens, Vocabulary
from saddlebag.algorithms.problems.data.shards import split_rows
from saddlebag.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from saddlebag.algorithms.networks.texts.albert import AlbertGame
    from saddlebag.algorithms.networks.texts.embeddings import EmbeddingAttack
    from saddlebag.algorithms.networks.texts.text import Text

__all__ = ["albert_mlm"]

_CHOSEN, _SHOWN_MASK, _SHOWN_RANDOM = 0.15, 0.8, 0.1
_JUDGED_AT_ONCE = 32


def masked(ids_BT: torch.Tensor, uniform_B3T: torch.Tensor, pieces: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide some places of rows [CLS] ... [SEP].

    Args:
        ids_BT: numbers of pieces, int64 (B, T).
        uniform_B3T: numbers in [0, 1): which places, what they show, which random piece.
        pieces: in the vocabulary.

    Returns:
        The rows with the chosen places hidden, int64 (B, T), and the chosen places, int64 (B, P).
    """
    import torch

    inner = ids_BT.shape[1] - 2
    count = max(1, round(_CHOSEN * inner))
    place_BP = 1 + uniform_B3T[:, 0, 1:-1].topk(count, dim=1).indices
    was_BP = ids_BT.gather(1, place_BP)
    how_BP, which_BP = (uniform_B3T[:, row].gather(1, place_BP) for row in (1, 2))
    random_BP = len(SPECIAL) + (which_BP * (pieces - len(SPECIAL))).long()
    shown_BP = torch.where(how_BP < _SHOWN_MASK + _SHOWN_RANDOM, random_BP, was_BP)
    shown_BP = torch.where(how_BP < _SHOWN_MASK, MASK, shown_BP)
    return ids_BT.scatter(1, place_BP, shown_BP), place_BP


@dataclasses.dataclass(frozen=True, eq=False)
class _Cloze:
    """Rows with places hidden, and the model that is to tell what was there.

    Attributes:
        model: of transformers.
        ids_BT: the rows as they are, int64.
        chance: where the places and what they show come from.
    """

    model: Any
    ids_BT: torch.Tensor
    chance: Chance

    @functools.cached_property
    def hidden(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See `masked`."""
        uniform_B3T = self.chance.uniform(3, self.ids_BT.shape[1]).to(self.ids_BT.device)
        return masked(self.ids_BT, uniform_B3T, self.model.config.vocab_size)

    @property
    def was_BP(self) -> torch.Tensor:
        """What was at the chosen places."""
        return self.ids_BT.gather(1, self.hidden[1])

    def embeddings(self) -> torch.Tensor:
        """(B, T, E) of the rows with places hidden."""
        e_BTE: torch.Tensor = self.model.get_input_embeddings()(self.hidden[0])
        return e_BTE

    def scores(self, e_BTE: torch.Tensor) -> torch.Tensor:
        """(B, P, pieces): at the chosen places alone, for scores everywhere are most of a small model's work."""
        out_BTH = self.model.albert(inputs_embeds=e_BTE).last_hidden_state
        chosen_BPH = out_BTH.gather(1, self.hidden[1].unsqueeze(-1).expand(-1, -1, out_BTH.shape[-1]))
        scores_BPV: torch.Tensor = self.model.predictions(chosen_BPH)
        return scores_BPV

    def loss(self, scores_BPV: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy."""
        from torch.nn import functional

        return functional.cross_entropy(scores_BPV.flatten(0, 1), self.was_BP.flatten())


def masked_loss(
    model: nn.Module, ids_BT: torch.Tensor, chance: Chance, attack: EmbeddingAttack, *kept_BTE: torch.Tensor
) -> torch.Tensor:
    """The mean cross-entropy at the chosen places."""
    cloze = _Cloze(model, ids_BT.long(), chance)
    e_BTE = cloze.embeddings()
    start = functools.partial(chance.uniform, *e_BTE.shape[1:])
    return attack.loss(lambda point_BTE: cloze.loss(cloze.scores(point_BTE)), e_BTE, start, *kept_BTE)


def _loss(
    players: Mapping[str, nn.Module], batch: tuple[torch.Tensor, ...], chance: Chance, *, attack: EmbeddingAttack
) -> torch.Tensor:
    return masked_loss(players["model"], batch[0], chance, attack, *batch[1:])


@dataclasses.dataclass(frozen=True, eq=False)
class _Judge:
    """Loss, perplexity, share of wrong guesses and, with a radius, loss under attack, on held-out rows under fixed masks."""

    rows_NT: Tokens
    attack: EmbeddingAttack
    device: str

    def __call__(self, players: Mapping[str, nn.Module]) -> dict[str, float]:
        count, sums_3 = len(self.rows_NT), np.zeros(3)
        for begin in range(0, count, _JUDGED_AT_ONCE):
            sums_3 += self._batch(players["model"], slice(begin, min(begin + _JUDGED_AT_ONCE, count)))
        loss, wrong, robust = (float(value) for value in sums_3 / count)
        merits = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "masked_error": wrong}
        return merits | ({"robust_loss": robust} if self.attack.eps else {})

    def _batch(self, model: nn.Module, part: slice) -> tuple[float, float, float]:
        """Sums over rows: mean loss of a row, its share of wrong guesses, its loss under attack."""
        import torch

        cloze, rows = self._cloze(model, part), part.stop - part.start
        with torch.no_grad():
            scores_BPV = cloze.scores(cloze.embeddings())
        wrong = (scores_BPV.argmax(-1) != cloze.was_BP).double().mean()
        robust = 0.0
        if self.attack.eps:
            chance = Chance(0, len(self.rows_NT), part)  # the same places again
            robust = float(masked_loss(model, cloze.ids_BT, chance, self.attack.judging()).detach())
        return float(cloze.loss(scores_BPV)) * rows, float(wrong) * rows, robust * rows

    def _cloze(self, model: nn.Module, part: slice) -> _Cloze:
        import torch

        ids_BT = torch.from_numpy(self.rows_NT[part]).long().to(self.device)
        return _Cloze(model, ids_BT, Chance(0, len(self.rows_NT), part))

    def samples(self, model: nn.Module, vocabulary: Vocabulary) -> list[tuple[str, ...]]:
        """Some rows as a person reads them, each chosen place as [guess], or as [guess, not what was there]."""
        import torch

        table: list[tuple[str, ...]] = [("held-out text, with [guesses] at the hidden places",)]
        for row in np.linspace(0, len(self.rows_NT) - 1, min(SAMPLES, len(self.rows_NT))).astype(int):
            cloze = self._cloze(model, slice(row, row + 1))
            with torch.no_grad():
                guess_P = cloze.scores(cloze.embeddings())[0].argmax(-1)
            said = dict(zip(cloze.hidden[1][0].tolist(), guess_P.tolist(), strict=True))
            table.append((vocabulary.shown(self.rows_NT[row], said),))
        return table


def albert_mlm(data: Text | None, *, num_workers: int, **keys: Unpack[AlbertKeys]) -> AlbertGame:
    """The problem; merits on the held-out text: loss, perplexity, masked_error, and robust_loss (PGD-10) where eps is above 0.

    Args:
        data: lines of a corpus.
        num_workers: among whom its rows are divided; split "label_skew" gives each worker a contiguous piece of the text.
        **keys: see `AlbertTraining`.

    Raises:
        ConfigError: there is no text, a parameter is out of range, or a package is missing.
        DataError: the text is too short.

    Example:
        >>> from saddlebag.algorithms.networks.texts.text import Text
        >>> lines = tuple(f"a grain of salt and {number} of pepper" for number in range(200))
        >>> game = albert_mlm(
        ...     Text("spices", lines[:160], lines[160:]), num_workers=2, length=16, batch_size=2, vocabulary=80, seed=0
        ... )
        >>> game.num_workers, game.length
        (2, 16)
    """
    if data is None:
        raise ConfigError("albert_mlm needs a text; add a data section whose source is the path of a text file or folder")
    training = AlbertTraining(**keys)
    shape, disturbed = training.shape, training.disturbance
    learned = Vocabulary.of(data.train, shape.vocabulary, user="albert_mlm", remember=data.remember)
    rows_NT, held_NT = (learned.remembered("pack", lines, shape.length, data.remember) for lines in (data.train, data.valid))
    if len(rows_NT) < num_workers or not len(held_NT):
        raise DataError(
            f"{data.name}: the text fills {len(rows_NT)} rows of {shape.length} tokens to train on and {len(held_NT)} to judge "
            f"by; needed are {num_workers} and 1"
        )
    numbers_N = np.arange(len(rows_NT), dtype=np.float64)
    shards = split_rows(numbers_N, num_workers, split=training.split, seed=training.seed)
    return training.game(
        f"albert_mlm on {data.name}",
        lambda: make_albert("AlbertForMaskedLM", shape, pieces=learned.size, dropout=training.dropout, seed=training.seed),
        _loss,
        tuple((rows_NT[shard],) for shard in shards),
        _Judge(held_NT[training.kept(len(held_NT))], disturbed, training.device),
        learned,
        length=shape.length,
        embedding=shape.embedding,
    )


albert_mlm.reads = "text"  # type: ignore[attr-defined]
albert_mlm.defaults = AlbertTraining  # type: ignore[attr-defined]
