"""A vocabulary of word pieces learned from the corpus at hand, and texts as rows of its numbers.

Every machine of a run learns its own, so it must be a function of the text: byte-pair encoding counts pairs (whole numbers) and
breaks ties by the pieces' numbers, so neither the number of threads nor their order matters.

Shapes: N = rows, T = tokens of a row.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.networks.texts.text import forget
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from saddlebag.algorithms.networks.texts.text import Remember

__all__ = ["CLS", "MASK", "PAD", "SEP", "UNKNOWN"]

Tokens = npt.NDArray[np.int32]

SPECIAL = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
"""ALBERT's, under its numbers (Lan et al. 2020)."""
PAD, UNKNOWN, CLS, SEP, MASK = range(len(SPECIAL))

_LEARNED_CHARACTERS = 3_000_000  # of at most so many: a second of work; the vocabulary hardly changes with more
_SMALLEST = 64
_BEGINNING = "\N{LOWER ONE EIGHTH BLOCK}"  # of a word, in place of the space before it (SentencePiece)


def require(package: str, user: str) -> Any:
    """The module of an optional package.

    Raises:
        ConfigError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{user} needs the package {error.name}; pip install 'saddlebag[transformers]'") from error


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """Word pieces with their numbers; the special ones come first.

    Attributes:
        tokenizer: of the library tokenizers; lower-case, accents stripped.
    """

    tokenizer: Any

    @property
    def pad(self) -> int:
        """The number of padding."""
        return PAD

    @classmethod
    def of(cls, lines: Sequence[str], size: int, *, user: str = "a vocabulary", remember: Remember = forget) -> Vocabulary:
        """What `learn` gives, perhaps remembered."""
        key = f"vocabulary {size} {_digest(lines)}"
        data = remember(key, lambda: cls.learn(lines, size, user=user).tokenizer.to_str().encode())
        return cls(require("tokenizers", user).Tokenizer.from_str(data.decode()))

    @classmethod
    def learn(cls, lines: Sequence[str], size: int, *, user: str = "a vocabulary") -> Vocabulary:
        """Learn at most `size` pieces from lines spread evenly over the corpus.

        Words are cut into characters, and the most frequent pair of neighbours is merged until there are enough pieces
        (Sennrich et al. 2016). Lower case without accents, as in ALBERT.
        Differs: ALBERT's pieces are those of a unigram model, whose learning adds up floats in the order of threads.

        Raises:
            ConfigError: the size is too small, or the package tokenizers is missing.
        """
        if size < _SMALLEST:
            raise ConfigError(f"vocabulary must have at least {_SMALLEST} pieces, got {size}")
        library = require("tokenizers", user)
        normal, split = library.normalizers, library.pre_tokenizers
        tokenizer = library.Tokenizer(library.models.BPE(unk_token=SPECIAL[UNKNOWN]))
        tokenizer.normalizer = normal.Sequence([normal.NFKD(), normal.StripAccents(), normal.Lowercase()])
        tokenizer.pre_tokenizer = split.Sequence([split.WhitespaceSplit(), split.Metaspace()])
        tokenizer.decoder = library.decoders.Metaspace()
        tokenizer.post_processor = library.processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(SPECIAL[CLS], CLS), (SPECIAL[SEP], SEP)],
        )
        seen = _spread(lines)
        letters = _frequent((tokenizer.normalizer.normalize_str(line) for line in seen), size // 4)
        keys: dict[str, Any] = {"vocab_size": size, "special_tokens": list(SPECIAL), "show_progress": False}
        keys |= {"initial_alphabet": letters, "limit_alphabet": len(letters)}  # of equals the library would drop any
        tokenizer.train_from_iterator(seen, library.trainers.BpeTrainer(**keys))
        return cls(tokenizer)

    @property
    def size(self) -> int:
        """Pieces, the special ones included."""
        return int(self.tokenizer.get_vocab_size())

    def remembered(self, how: str, texts: Sequence[str], length: int, remember: Remember) -> Tokens:
        """The rows that the method of this name ("pack" or "rows") gives, perhaps remembered."""
        key = f"{how} {length} {hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()} {_digest(texts)}"
        data = remember(key, lambda: getattr(self, how)(texts, length).astype("<i4").tobytes())
        return np.frombuffer(data, "<i4").reshape(-1, length)

    def pack(self, lines: Sequence[str], length: int) -> Tokens:
        """The lines as one stream with [SEP] between them, cut into rows [CLS] ... [SEP]; a rest that fills no row is left out.

        Returns:
            (N, length), int32.
        """
        encoded = self.tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
        stream = np.concatenate([np.empty(0, np.int32), *(np.array([*one.ids, SEP], np.int32) for one in encoded)])
        inner = length - 2
        rows_NT = np.full((len(stream) // inner, length), SEP, np.int32)
        rows_NT[:, 0] = CLS
        rows_NT[:, 1:-1] = stream[: len(rows_NT) * inner].reshape(-1, inner)
        return rows_NT

    def rows(self, sentences: Sequence[str], length: int) -> Tokens:
        """One row [CLS] ... [SEP] <pad> ... a sentence; what is longer is cut.

        Returns:
            (N, length), int32.
        """
        encoded = self.tokenizer.encode_batch_fast(list(sentences), add_special_tokens=False)
        rows_NT = np.full((len(encoded), length), PAD, np.int32)
        for row_T, one in zip(rows_NT, encoded, strict=True):
            ids = [CLS, *one.ids[: length - 2], SEP]
            row_T[: len(ids)] = ids
        return rows_NT

    def shown(self, ids_T: Tokens, said: Mapping[int, int] | None = None) -> str:
        """A row for people, without [CLS], padding and the last [SEP]; at some places stands what was [said]."""
        ids, found = ids_T.tolist(), []
        for place in np.flatnonzero(ids_T != PAD)[1:-1].tolist():
            piece, space = self._piece(ids[place])
            if said is not None and place in said:
                guess, _ = self._piece(said[place])
                piece = f"[{piece}]" if said[place] == ids[place] else f"[{guess}, not {piece}]"
            found.append(space + ("/" if piece == SPECIAL[SEP] else piece))
        return " ".join("".join(found).split())

    def _piece(self, number: int) -> tuple[str, str]:
        """The piece, and the space before it if it begins a word."""
        piece = self.tokenizer.id_to_token(number)
        return piece.removeprefix(_BEGINNING), " " if piece.startswith(_BEGINNING) or number < len(SPECIAL) else ""

    def pretrained(self, length: int) -> Any:
        """As transformers' tokenizer, which saves itself beside a model.

        Raises:
            ConfigError: transformers is not installed.
        """
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        transformers = require("transformers", "a tokenizer for export")
        keys: dict[str, Any] = {**dict(zip(names, SPECIAL, strict=True)), "model_max_length": length}
        return transformers.PreTrainedTokenizerFast(tokenizer_object=self.tokenizer, **keys)


def _digest(lines: Sequence[str]) -> str:
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return found.hexdigest()


def _frequent(lines: Iterable[str], most: int) -> list[str]:
    """The most frequent characters, of equals the first by code; the mark of a word's beginning is among them."""
    counts = collections.Counter(itertools.chain.from_iterable(lines))
    counts[_BEGINNING] = sum(counts.values()) + 1
    return sorted(sorted(letter for letter in counts if not letter.isspace()), key=counts.__getitem__, reverse=True)[:most]


def _spread(lines: Sequence[str]) -> Sequence[str]:
    """Every so manieth line, so that about `_LEARNED_CHARACTERS` remain."""
    characters = sum(map(len, lines))
    kept = lines[:: max(1, -(-characters // _LEARNED_CHARACTERS))]
    return [line[:_LEARNED_CHARACTERS] for line in kept] if len(kept) < 2 else kept
