"""Reading pictures with labels: scikit-learn's digits, and MNIST's idx files, plain or compressed.

Shapes: N = pictures, H x W = pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.networks.images.pictures import Images
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.bundled import bundled
from saddlebag.launch.data.decoding import opened

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["read_idx", "read_images"]

_MAX_BYTES = 1 << 31  # of an unpacked file; MNIST's largest has 47 million
_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by the code in the header
_WHOLE = (8, 9, 11, 12)
_TRAIN, _TEST = ("train",), ("t10k", "test")
_CLASSES = 10


def read_images(source: str) -> Images:
    """The digits that scikit-learn ships (1,797 of 8 x 8), or MNIST by a path.

    The path is that of an idx file of pictures (such as `train-images-idx3-ubyte.gz`), beside which lies the file of labels
    whose name has `labels` for `images`; or that of a folder with both for "train" and for "t10k" or "test", which judge.

    Raises:
        ConfigError: the source is another bundled set, or no such file name.
        DataError: a file is missing or malformed.
    """
    if source == "digits":
        pixels, digits = bundled("digits")
        return Images("digits", pixels.reshape(-1, 8, 8) / 16.0, digits.astype(np.int64))
    path = Path(source)
    if path.is_dir():
        (train, train_labels), (test, test_labels) = (_pair(_only(path, words)) for words in (_TRAIN, _TEST))
        if train.shape[1:] != test.shape[1:]:
            raise DataError(f"{path}: pictures for training are {train.shape[1:]}, for testing {test.shape[1:]}")
        pictures, labels = np.concatenate([train, test]), np.concatenate([train_labels, test_labels])
        return Images(path.name, pictures / 255.0, labels, held_out=len(test))
    if not path.is_file():
        raise ConfigError(f"data.source must be 'digits', an idx file of pictures or a folder with such files, got {source!r}")
    pictures, labels = _pair(path)
    return Images(path.name, pictures / 255.0, labels)


def _only(folder: Path, words: tuple[str, ...]) -> Path:
    """The one file of pictures in a folder whose name has one of these words; what a file holds, its first bytes say."""
    named = [file for file in sorted(folder.iterdir()) if file.is_file() and any(word in file.name.lower() for word in words)]
    found = [file for file in named if _header(file)[3:] in (b"\x03", b"\x04")]
    if len(found) != 1:
        names = f", {', '.join(file.name for file in found[:4])}" if found else ""
        raise DataError(f"{folder}: must hold one idx file of pictures with {words[0]!r} in its name, got {len(found)}{names}")
    return found[0]


def _header(path: Path) -> bytes:
    """The first four bytes of an idx file; empty for another."""
    try:
        with opened(path) as file:
            first = file.read(4)
    except DataError:
        return b""
    return first if first[:2] == b"\0\0" and first[2:3] and first[2] in _TYPES else b""


def _pair(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Pictures and their labels, which lie beside them in a file whose name says "labels" for "images"."""
    pictures = read_idx(path, 3)
    if "images" not in path.name:
        raise ConfigError(
            f"{path.name}: the name of a file of pictures must have 'images' in it, where that of labels has 'labels'"
        )
    labels_path = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = read_idx(labels_path, 1, types=_WHOLE)
    if len(labels) != len(pictures):
        raise DataError(f"{labels_path}: holds {len(labels)} labels for {len(pictures)} pictures")
    if labels.size and not 0 <= labels.min() <= labels.max() < _CLASSES:
        raise DataError(f"{labels_path}: labels must lie in 0..{_CLASSES - 1}, got {labels.min()}..{labels.max()}")
    return pictures, labels.astype(np.int64)


def read_idx(path: Path, axes: int, *, types: tuple[int, ...] = (8,)) -> npt.NDArray[Any]:
    """An idx file with so many axes; of bytes, or of other `types` by their codes.

    Raises:
        DataError: the file is missing, damaged, of another kind, or not as long as its header says.
    """
    with opened(path) as file:
        header = file.read(4 + 4 * axes)
        if header[:2] != b"\0\0" or len(header) < 4 or header[2] not in _TYPES:
            raise DataError(f"{path}: is no idx file: it begins {header[:4].hex()}")
        kind = _TYPES[header[2]]
        if header[2] not in types or header[3] != axes:
            wanted = " or ".join(np.dtype(_TYPES[code]).name for code in types)
            raise DataError(f"{path}: must hold {wanted} with {axes} axes, holds {np.dtype(kind).name} with {header[3]}")
        shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
        size = int(np.prod([float(n) for n in shape])) * np.dtype(kind).itemsize
        if len(shape) != axes or not 0 < size <= _MAX_BYTES:
            raise DataError(f"{path}: its header announces {shape}, allowed are up to {_MAX_BYTES} bytes")
        data = file.read(size + 1)
    if len(data) != size:
        raise DataError(f"{path}: its header announces {size} bytes, it holds {'more' if len(data) > size else len(data)}")
    return np.frombuffer(data, kind).reshape(shape)
