"""Weights that somebody trained before, as a start: a configuration, tensors and a tokenizer, as folders of transformers.

Reading the folder is `launch`'s work (`launch/data/pretrained.py`); no code of the folder is run.

Shapes: N = sentences, T = tokens of a row.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.networks.chance import seeded
from saddlebag.algorithms.networks.texts.vocabulary import Tokens, Vocabulary, require
from saddlebag.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from torch import nn

_MOST_LAYERS = 1000  # of a configuration: what a model is built of one after the other
_SHOWN = 3  # names that a message repeats
_NO_WEIGHTS = ("position_ids",)  # counted, not trained: older files hold them


@dataclasses.dataclass(frozen=True, eq=False)
class PretrainedVocabulary(Vocabulary):
    """The pieces of a folder's own tokenizer, under its own numbers.

    Attributes:
        text: tokenizer.json.
        special: names of special tokens by what transformers calls them, such as "pad_token".
        padding: the number of padding.
    """

    text: str
    special: Mapping[str, str]
    padding: int

    @property
    def pad(self) -> int:
        """The number of padding."""
        return self.padding

    def rows(self, sentences: Sequence[str], length: int) -> Tokens:
        """One row a sentence with the special tokens that the tokenizer adds, padded; what is longer is cut.

        Returns:
            (N, length), int32.
        """
        self.tokenizer.enable_truncation(length)
        encoded = self.tokenizer.encode_batch_fast(list(sentences))
        rows_NT = np.full((len(encoded), length), self.pad, np.int32)
        for row_T, one in zip(rows_NT, encoded, strict=True):
            row_T[: len(one.ids)] = one.ids
        return rows_NT

    def shown(self, ids_T: Tokens, said: Mapping[int, int] | None = None) -> str:
        """A row for people, without special tokens."""
        del said
        return " ".join(self.tokenizer.decode(ids_T.tolist()).split())

    def pretrained(self, length: int) -> Any:
        """As transformers' tokenizer, which saves itself beside a model."""
        library, transformers = (require(name, "a tokenizer for export") for name in ("tokenizers", "transformers"))
        keys: dict[str, Any] = {**self.special, "model_max_length": length}
        return transformers.PreTrainedTokenizerFast(tokenizer_object=library.Tokenizer.from_str(self.text), **keys)


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """What a folder holds.

    Attributes:
        name: of the folder, for messages.
        config: config.json.
        tensors: by name, floating.
        tokenizer: tokenizer.json.
    """

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]
    tokenizer: str

    def vocabulary(self) -> PretrainedVocabulary:
        """Its pieces.

        Raises:
            ConfigError: the package tokenizers is missing, or the configuration names no padding.
            DataError: the tokenizer is malformed, or has more pieces than the model.
        """
        library = require("tokenizers", "problem.init")
        try:
            tokenizer = library.Tokenizer.from_str(self.tokenizer)
        except Exception as error:  # the library raises no narrower one
            raise DataError(f"{self.name}: tokenizer.json is malformed: {str(error).splitlines()[0]}") from error
        tokenizer.no_padding()
        pad, pieces = self.config.get("pad_token_id"), self.config.get("vocab_size")
        if type(pad) is not int or not 0 <= pad < tokenizer.get_vocab_size():
            raise ConfigError(f"{self.name}: config.json must name the padding of texts, a pad_token_id, got {pad!r}")
        if type(pieces) is not int or tokenizer.get_vocab_size() > pieces:
            raise DataError(
                f"{self.name}: tokenizer.json has {tokenizer.get_vocab_size()} pieces, config.json a vocab_size of {pieces!r}"
            )
        ids = {key: self.config.get(f"{key}_id") for key in ("pad_token", "bos_token", "eos_token")}
        special = {key: tokenizer.id_to_token(id_) for key, id_ in ids.items() if type(id_) is int and id_ >= 0}
        return PretrainedVocabulary(tokenizer, self.tokenizer, {k: v for k, v in special.items() if v is not None}, pad)

    def model(self, head: str, *, dropout: float, seed: int, classes: int) -> tuple[nn.Module, tuple[str, ...]]:
        """The model with these weights, and the names of parameters that are new: a head's, and a pooler's.

        Args:
            head: an auto class of transformers, such as "AutoModelForSequenceClassification".
            dropout: everywhere, probability.
            seed: of what is new.
            classes: of the head.

        Raises:
            ConfigError: transformers is missing, or does not know the kind of model.
            DataError: names or shapes of the tensors are not the model's.
        """
        import torch

        transformers = require("transformers", "problem.init")
        config = self._configuration(transformers, dropout, classes)
        try:
            with torch.device("meta"):
                kind: Any = type(getattr(transformers, head).from_config(config))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.name}: {head} cannot be made of its config.json: {str(error).splitlines()[0]}") from error
        keys = {"config": config, "state_dict": dict(self.tensors), "dtype": torch.float32, "ignore_mismatched_sizes": True}
        with _silent(transformers), seeded(seed, "cpu"):  # the library draws what is new from no other generator
            model, found = kind.from_pretrained(None, output_loading_info=True, **keys)
        return model.train(), self._new(model.base_model_prefix + ".", found)

    def _configuration(self, transformers: Any, dropout: float, classes: int) -> Any:
        """Of transformers; what would make the folder's own code run, or store weights in integers, has no place."""
        table = {key: value for key, value in self.config.items() if key not in ("auto_map", "_name_or_path", "model_type")}
        if "quantization_config" in table:
            raise ConfigError(f"{self.name}: its weights are quantised, and cannot be trained; take those before quantisation")
        layers = max((v for k, v in table.items() if "layers" in k and type(v) is int), default=0)
        if layers > _MOST_LAYERS:
            raise DataError(f"{self.name}: config.json announces {layers} layers, allowed are {_MOST_LAYERS}")
        table |= {key: dropout for key, value in table.items() if "dropout" in key and not isinstance(value, bool)}
        for key in ("id2label", "label2id", "num_labels", "problem_type"):
            table.pop(key, None)
        model_type = self.config.get("model_type")
        try:
            return transformers.AutoConfig.for_model(model_type, num_labels=classes, **table)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{self.name}: transformers knows no model of model_type {model_type!r}") from error

    def _new(self, prefix: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        """The names that begin anew; refuse whatever else does not fit."""
        wrong = [(name, was, wanted) for name, was, wanted in sorted(found["mismatched_keys"]) if name.startswith(prefix)]
        if wrong:
            name, was, wanted = wrong[0]
            raise DataError(
                f"{self.name}: {name} has shape {tuple(was)}, by config.json it must be {tuple(wanted)}"
                + (f"; {len(wrong) - 1} more do not fit" if wrong[1:] else "")
            )
        missing = sorted(found["missing_keys"])
        lacking = [name for name in missing if name.startswith(prefix) and ".pooler." not in name]
        of_heads = any(name.startswith(prefix) for name in self.tensors)  # else the tensors are those of the body alone
        over = [name for name in sorted(found["unexpected_keys"]) if name.startswith(prefix) or not of_heads]
        over = [name for name in over if "pooler." not in name and not name.endswith(_NO_WEIGHTS)]
        for names, what in ((lacking, "lack"), (over, "have")):
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                other = "" if what == "lack" else ", which the model of config.json does not"
                raise DataError(f"{self.name}: the weights {what} {', '.join(names[:_SHOWN])}{more}{other}")
        return tuple(sorted({*missing, *(name for name, *_ in found["mismatched_keys"])}))


@contextlib.contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """Without the library's own report and bar: what is to be said of the weights, `Pretrained.model` returns or raises."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
