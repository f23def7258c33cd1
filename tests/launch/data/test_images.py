"""Reading pictures: the bundled digits, idx files, and files that are none."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.images import read_images

if TYPE_CHECKING:
    from pathlib import Path

PIXELS, LABELS = "t-images-idx3-ubyte", "t-labels-idx1-ubyte"


def idx(values: Any) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def write(folder: Path, pictures: bytes, labels: bytes, suffix: str = "") -> str:
    pack = gzip.compress if suffix == ".gz" else bytes
    (folder / (PIXELS + suffix)).write_bytes(pack(pictures))
    (folder / (LABELS + suffix)).write_bytes(pack(labels))
    return str(folder / (PIXELS + suffix))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_come_back(suffix: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4))
    found = read_images(write(tmp_path, idx(pixels), idx(np.arange(5)), suffix))
    assert np.array_equal(found.images_NHW * 255.0, pixels)
    assert found.labels_N.tolist() == [0, 1, 2, 3, 4]


def test_a_folder_holds_pictures_to_train_on_and_to_judge(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 4, 4))
    for prefix, part in (("train", slice(0, 5)), ("t10k", slice(5, 8))):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(pixels[part]))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(8)[part]))
    found = read_images(str(tmp_path))
    assert np.array_equal(found.images_NHW * 255.0, pixels)
    judges, rest = found.divide()
    assert sorted(found.labels_N[judges]) == [5, 6, 7]
    assert sorted(found.labels_N[rest]) == [0, 1, 2, 3, 4]
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match=r"must hold one idx file of pictures with 't10k' in its name, got 0"):
        read_images(str(tmp_path))


def test_the_bundled_digits() -> None:
    found = read_images("digits")
    assert found.images_NHW.shape == (1797, 8, 8)
    assert (found.images_NHW.min(), found.images_NHW.max()) == (0.0, 1.0)


GOOD, FIVE = idx(np.zeros((5, 4, 4))), idx(np.arange(5))


@pytest.mark.parametrize(
    ("pictures", "labels", "message"),
    [
        (b"", FIVE, "is no idx file"),
        (FIVE, FIVE, "must hold uint8 with 3 axes, holds uint8 with 1"),
        (GOOD[:-1], FIVE, "its header announces 80 bytes, it holds 79"),
        (GOOD + b"x", FIVE, "its header announces 80 bytes, it holds more"),
        (GOOD[:4] + b"\xff" * 12, FIVE, "its header announces .* allowed are up to"),
        (GOOD, idx(np.arange(4)), "holds 4 labels for 5 pictures"),
        (GOOD, idx(np.full(5, 10)), r"labels must lie in 0\.\.9, got 10\.\.10"),
    ],
)
def test_malformed_files_are_named(pictures: bytes, labels: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_images(write(tmp_path, pictures, labels))


def test_files_that_are_missing_damaged_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.source must be 'digits', an idx file"):
        read_images("breast_cancer")
    with pytest.raises(ConfigError, match=r"data\.source must be 'digits', an idx file"):
        read_images(str(tmp_path / PIXELS))
    path = tmp_path / (PIXELS + ".gz")
    path.write_bytes(gzip.compress(GOOD)[:30])
    with pytest.raises(DataError, match="cannot be read"):
        read_images(str(path))


@pytest.mark.parametrize(
    "names",
    [
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte", "t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"),
        ("set-train-images", "set-train-labels", "set-test-images", "set-test-labels"),
    ],
)
def test_what_an_idx_file_is_its_first_bytes_say(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "train-readme.txt").write_text("not a picture")
    wide = np.arange(5).astype(">i4")
    for name, content in zip(
        names, (GOOD, b"\0\0\x0c\x01" + FIVE[4:8] + wide.tobytes(), gzip.compress(GOOD), FIVE), strict=True
    ):
        (tmp_path / name).write_bytes(content)
    found = read_images(str(tmp_path))
    assert found.images_NHW.shape == (10, 4, 4)
    assert found.labels_N.tolist() == [*range(5), *range(5)]
