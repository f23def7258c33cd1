"""Reading a folder of pretrained weights, as transformers saves it: config.json, safetensors, tokenizer.json.

Nothing is unpickled, and nothing is downloaded: a user without the weights is told the command.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.method_capabilities import TakesWeights
from saddlebag.algorithms.networks.texts.pretrained import Pretrained
from saddlebag.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

__all__ = ["read_pretrained", "with_weights"]

_MOST_TEXT = 1 << 26  # bytes of a file of JSON; the tokenizers of large vocabularies have some 20 million
_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_DOWNLOAD = "hf download albert/albert-base-v2 config.json model.safetensors tokenizer.json --local-dir albert-base-v2"


def with_weights(factory: Callable[..., Any], params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a problem, in which the path of weights, where the factory takes some, is what stands there.

    Raises:
        ConfigError: it is no path of a folder.
        DataError: the folder lacks a file, or one is malformed.
    """
    key = factory.weights if isinstance(factory, TakesWeights) else ""
    path = params.get(key)
    if not key or path == "" or path is None or isinstance(path, Pretrained):
        return params
    if not isinstance(path, str | Path):
        raise ConfigError(f"{key} must be the path of a folder of weights, got {path!r}")
    return {**params, key: read_pretrained(Path(path))}


def read_pretrained(folder: Path) -> Pretrained:
    """What a folder of weights holds.

    Raises:
        ConfigError: there is no such folder.
        DataError: it lacks a file, or one is malformed; for pickled weights with the command that converts them.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"init must be a folder with {_CONFIG}, {_WEIGHTS} and {_TOKENIZER}, got {str(folder)!r}; "
            f"one is downloaded by: {_DOWNLOAD}"
        )
    config = _json(folder / _CONFIG, f"it is downloaded by: {_DOWNLOAD}")
    tensors: dict[str, torch.Tensor] = {}
    for file in _files(folder):
        tensors |= _tensors(file)
    save = "from_pretrained('.').save_pretrained('.')"
    made = f'in that folder: python -c "from transformers import AutoTokenizer as A; A.{save}"'
    _json(folder / _TOKENIZER, f"it is written, {made}")
    return Pretrained(folder.name, config, tensors, (folder / _TOKENIZER).read_text(encoding="utf-8"))


def _json(path: Path, otherwise: str) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; {otherwise}")
    if path.stat().st_size > _MOST_TEXT:
        raise DataError(f"{path}: has {path.stat().st_size} bytes, allowed are {_MOST_TEXT}")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON: {error}") from error
    if not isinstance(table, dict):
        raise DataError(f"{path}: must hold an object of JSON, holds {type(table).__name__}")
    return table


def _files(folder: Path) -> list[Path]:
    """The files of tensors: one, or those of an index."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if (folder / _INDEX).is_file():
        places = _json(folder / _INDEX, "").get("weight_map")
        names = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
        if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
            raise DataError(f"{folder / _INDEX}: weight_map must give names of .safetensors files in the same folder")
        lost = [name for name in names if not (folder / name).is_file()]
        if lost:
            raise DataError(f"{folder / lost[0]}: there is no such file, though {_INDEX} names it")
        return [folder / name for name in names]
    pickled = sorted(file.name for pattern in _PICKLED for file in folder.glob(pattern))
    if pickled:
        save = "from_pretrained('.').save_pretrained('.')"
        raise DataError(
            f"{folder / pickled[0]}: weights are read from safetensors only, since a pickle runs what it likes; "
            f'where you trust it, in that folder: python -c "from transformers import AutoModelForPreTraining as A; A.{save}"'
        )
    raise DataError(f"{folder}: there is no {_WEIGHTS}; it is downloaded by: {_DOWNLOAD}")


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, in types that can be trained in."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: is no safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.element_size() < 2:
            raise DataError(f"{path}: {name} is of type {tensor.dtype}; weights must have 16 bits or more")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DataError(f"{path}: {name} has values that are not finite")
    return tensors
