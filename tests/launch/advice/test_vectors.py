from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.advice.vectors import read_vector, synthetic, vector_of

if TYPE_CHECKING:
    from pathlib import Path

    from saddlebag.launch.advice.vectors import Law


@pytest.mark.parametrize(("law", "kurtosis"), [("gaussian", 3), ("heavy", 46.2), ("uniform", 1.8)])
def test_synthetic_vectors_follow_their_law(law: Law, kurtosis: float) -> None:
    """Fourth moment by the squared second: E x^12 / (E x^6)^2 = 10395 / 225 for a cubed normal number."""
    x_D = synthetic(law, 1_000_000)
    assert x_D.dtype == np.float32
    assert np.array_equal(x_D[:5], synthetic(law, 1_000_000)[:5])
    x_D = x_D.astype(np.float64)
    tolerance = 0.5 if law == "heavy" else 0.02  # heavy tails: a few entries decide
    assert (x_D**4).mean() / (x_D**2).mean() ** 2 == pytest.approx(kurtosis, rel=tolerance)


def test_tensors_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    tensors: dict[str, Any] = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.ones(2, np.float64),
        "steps": np.arange(3),
        "none": np.empty((0, 2), np.float32),
    }
    save_file(tensors, path)
    assert read_vector(path).tolist() == [1, 1, 0, 1, 2, 3, 4, 5]
    assert read_vector(path, "b").dtype == np.float32
    assert vector_of(path, "b", None, None)[1] == "g.safetensors, b"
    for name, message in (
        ("c", "has no tensor 'c'; it holds a, b, none, steps"),
        ("steps", "steps is empty or holds no floats"),
        ("none", "none is empty or holds no floats"),
    ):
        with pytest.raises(DataError, match=message):
            read_vector(path, name)


def test_bfloat16_is_read_through_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    save_torch({"w": torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16)}, tmp_path / "w.safetensors")
    assert read_vector(tmp_path / "w.safetensors").tolist() == [1.5, -2.0]


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"12345678")
    for name in ("bad", "gone"):
        with pytest.raises(DataError, match=f"{name} cannot be read: ") as caught:
            read_vector(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "w", None, None), "--tensor names a tensor of the file in --from"),
        (("f", None, "heavy", None), "--from takes the vector from a file"),
        (("f", None, None, 5), "--from takes the vector from a file"),
        ((None, None, "heavy", 2**40), r"d must lie in \[1, 2147483648\], got 1099511627776"),
    ],
)
def test_options_that_contradict_each_other(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        vector_of(*arguments)


def test_floats_of_eight_bits_are_named_as_such(tmp_path: Path) -> None:
    """They were said to be no floats, and left out where others stood beside them."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    weights = {"a": torch.ones(2), "w": torch.ones(2, dtype=torch.float8_e4m3fn)}
    save_torch(weights, tmp_path / "w.safetensors")
    with pytest.raises(
        DataError, match="tensor 'w' holds F8_E4M3: floats of 8 bits or fewer mean nothing without their scales"
    ):
        read_vector(tmp_path / "w.safetensors")
    assert read_vector(tmp_path / "w.safetensors", "a").tolist() == [1.0, 1.0]
