"""Which tensors of a model travel, and how they come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from saddlebag.client.link.vector import ModelVector
from saddlebag.errors import ConfigError


class Tied(nn.Module):
    """A frozen, a tied, a half and a normalised layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.frozen = nn.Linear(3, 3)
        self.frozen.requires_grad_(requires_grad=False)
        self.norm = nn.BatchNorm1d(3)
        self.half = nn.Linear(3, 2, dtype=torch.bfloat16)


def test_frozen_stay_out_and_tied_count_once() -> None:
    vector = ModelVector(Tied(), None, buffers=False)
    assert [tensor.name for tensor in vector.parameters] == [
        "embed.weight",
        "norm.weight",
        "norm.bias",
        "half.weight",
        "half.bias",
    ]
    assert vector.buffers == ()


def test_floating_buffers_come_last_where_asked() -> None:
    vector = ModelVector(Tied(), None, buffers=True)
    assert [tensor.name for tensor in vector.buffers] == ["norm.running_mean", "norm.running_var"]
    assert len(vector.read()) == sum(tensor.size for tensor in (*vector.parameters, *vector.buffers))


def test_what_is_written_is_read_in_each_tensors_type() -> None:
    model = Tied()
    vector = ModelVector(model, None, buffers=True)
    z_D = np.random.default_rng(0).standard_normal(len(vector.read()))
    vector.write(z_D)
    found_D = vector.read()
    assert np.array_equal(found_D[:21], z_D[:21].astype(np.float32))
    half_D = torch.tensor(z_D[21:29]).to(torch.bfloat16).double().numpy()
    assert np.array_equal(found_D[21:29], half_D)
    assert torch.equal(model.head.weight, model.embed.weight)


def test_only_what_the_optimizer_moves_travels() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    some = torch.optim.SGD(model[1].parameters(), lr=0.1)
    assert [tensor.name for tensor in ModelVector(model, some, buffers=False).parameters] == ["1.weight", "1.bias"]
    with pytest.raises(ConfigError, match="the optimizer moves 2 parameters that the model does not have"):
        ModelVector(model[0], some, buffers=False)


def test_wrappers_of_compile_change_no_name() -> None:
    model = nn.Linear(2, 1)
    compiled = torch.compile(model, backend="eager")
    assert ModelVector(compiled, None, buffers=False).parameters == ModelVector(model, None, buffers=False).parameters


def test_complex_and_sharded_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"a link exchanges real numbers, and parameter 'weight' is torch.complex64"):
        ModelVector(nn.Linear(2, 1, bias=False, dtype=torch.complex64), None, buffers=False)

    class FlatParameter(nn.Parameter):
        """As FSDP's, by name."""

    model = nn.Linear(2, 1, bias=False)
    model.weight = FlatParameter(torch.zeros(1, 2))
    with pytest.raises(ConfigError, match=r"parameter 'weight' is a shard \(FSDP\)"):
        ModelVector(model, None, buffers=False)
    with pytest.raises(ConfigError, match="there is nothing to link"):
        ModelVector(nn.ReLU(), None, buffers=False)


def test_a_parameter_that_was_given_other_memory_is_read_and_written_there() -> None:
    """As `vector_to_parameters` and `parameter.data = ...` do; the old memory says nothing any more."""
    model = nn.Linear(2, 1).double()
    vector = ModelVector(model, None, buffers=False)
    given = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    nn.utils.vector_to_parameters(given, model.parameters())
    assert vector.read().tolist() == [1.0, 2.0, 3.0]
    vector.write(np.array([4.0, 5.0, 6.0]))
    assert model.bias.item() == 6.0
