"""Reading pictures with labels: scikit-learn's digits, and MNIST's idx files, plain or compressed.

Shapes: N = pictures, H x W = pixels.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.networks.digits import Images
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.bundled import bundled

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["read_idx", "read_images"]

_MAX_BYTES = 1 << 31  # of an unpacked file; MNIST's largest has 47 million
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
_CLASSES = 10


def read_images(source: str) -> Images:
    """The digits that scikit-learn ships (1,797 of 8 x 8), or MNIST by a path.

    The path is that of the pictures (`*-images-idx3-ubyte[.gz]`), beside which lies the file of labels whose name has
    `labels-idx1` for `images-idx3`; or that of a folder with both for `train-` and `t10k-`, the second of which judge.

    Raises:
        ConfigError: the source is another bundled set, or no such file name.
        DataError: a file is missing or malformed.
    """
    if source == "digits":
        pixels, digits = bundled("digits")
        return Images("digits", pixels.reshape(-1, 8, 8) / 16.0, digits.astype(np.int64))
    path = Path(source)
    if path.is_dir():
        (train, train_labels), (test, test_labels) = (_pair(_only(path, prefix)) for prefix in ("train", "t10k"))
        if train.shape[1:] != test.shape[1:]:
            raise DataError(f"{path}: pictures for training are {train.shape[1:]}, for testing {test.shape[1:]}")
        pictures, labels = np.concatenate([train, test]), np.concatenate([train_labels, test_labels])
        return Images(path.name, pictures / 255.0, labels, held_out=len(test))
    if "images-idx3" not in path.name:
        raise ConfigError(
            f"data.source must be 'digits', a file *images-idx3-ubyte[.gz] or a folder with such files, got {source!r}"
        )
    pictures, labels = _pair(path)
    return Images(path.name, pictures / 255.0, labels)


def _only(folder: Path, prefix: str) -> Path:
    """The one file of pictures in a folder whose name starts so."""
    found = sorted(folder.glob(f"{prefix}*images-idx3*"))
    if len(found) != 1:
        raise DataError(f"{folder}: must hold one file {prefix}-images-idx3-ubyte[.gz], got {len(found)}")
    return found[0]


def _pair(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Pictures and their labels."""
    pictures = read_idx(path, 3)
    labels_path = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    labels = read_idx(labels_path, 1)
    if len(labels) != len(pictures):
        raise DataError(f"{labels_path}: holds {len(labels)} labels for {len(pictures)} pictures")
    if labels.size and labels.max() >= _CLASSES:
        raise DataError(f"{labels_path}: labels must lie in 0..{_CLASSES - 1}, got {labels.max()}")
    return pictures, labels.astype(np.int64)


def read_idx(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """An idx file of bytes with so many axes.

    Raises:
        DataError: the file is missing, damaged, of another kind, or not as long as its header says.
    """
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as file:
            header = file.read(4 + 4 * axes)
            if len(header) < 4 + 4 * axes or header[:4] != bytes((0, 0, 8, axes)):
                raise DataError(f"{path}: is no idx file of bytes with {axes} axes: it begins {header[:4].hex()}")
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
            size = int(np.prod([float(n) for n in shape]))
            if not 0 < size <= _MAX_BYTES:
                raise DataError(f"{path}: its header announces {shape}, allowed are up to {_MAX_BYTES} bytes")
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) != size:
        raise DataError(f"{path}: its header announces {size} bytes, it holds {'more' if len(data) > size else len(data)}")
    return np.frombuffer(data, np.uint8).reshape(shape)
