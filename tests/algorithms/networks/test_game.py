"""Games of torch modules: autograd's own gradients, a function of the round's key, parts whose mean is the whole."""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from saddlebag.algorithms import METHODS, Stop, simulate
from saddlebag.algorithms.networks import evaluation
from saddlebag.algorithms.networks.chance import seeded
from saddlebag.algorithms.networks.flat import FlatModules
from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.compression import Draws, Identity, TopK
from saddlebag.errors import ConfigError, NotFiniteError
from saddlebag.proto.codec import LoopbackWire


class Tied(nn.Module):
    """Two layers with one matrix, and dropout where asked."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(torch.tanh(self.dropout(self.first(x))))
        return out


def squares(players: Any, batch: Any, chance: Any) -> torch.Tensor:
    x, y = batch
    return functional.mse_loss(players["model"](x + 0.1 * chance.uniform(4).to(x)), y)


def game(**keys: Any) -> ModuleGame:
    rng = np.random.default_rng(0)
    data = tuple((rng.standard_normal((12, 4)), rng.standard_normal((12, 4))) for _ in range(2))
    dropout = keys.pop("dropout", 0.0)
    given: dict[str, Any] = {"build": lambda: {"model": Tied(dropout)}, "loss": squares, "precision": "float64", "data": data}
    return ModuleGame(**(given | keys))


def test_parameters_live_in_the_vector_and_tied_ones_count_once() -> None:
    flat = FlatModules({"model": Tied()}, dtype=torch.float64)
    assert flat.dimension == 20
    assert [(tensor.name, tensor.shape) for tensor in flat.tensors] == [
        ("model.first.weight", (4, 4)),
        ("model.first.bias", (4,)),
    ]
    z_D = np.arange(20.0)
    flat.load(z_D)
    module: Any = flat.modules["model"]
    assert torch.equal(module.second.weight, torch.arange(16.0, dtype=torch.float64).view(4, 4))
    assert np.array_equal(flat.value(), z_D)
    with pytest.raises(ConfigError, match="modules must have a parameter"):
        FlatModules({"model": nn.Identity()}, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"must know their shapes, got the lazy model\.weight; call the module once"):
        FlatModules({"model": nn.LazyLinear(2)}, dtype=torch.float64)


def test_the_operator_is_autograds_gradient() -> None:
    problem, draws = (
        game(loss=lambda players, batch, chance: functional.mse_loss(players["model"](batch[0]), batch[1])),
        Draws(0, 3, 1),
    )
    z_D = problem.start() + 0.1
    model = Tied().double()
    nn.utils.vector_to_parameters(torch.from_numpy(z_D), model.parameters())
    x, y = (torch.from_numpy(array) for array in problem.data[1])
    expected = torch.autograd.grad(functional.mse_loss(model(x), y), list(model.parameters()))
    found_D = problem.operator(1)(z_D, draws)
    assert np.allclose(found_D, torch.cat([part.reshape(-1) for part in expected]).numpy(), rtol=1e-13)


@pytest.mark.parametrize("batch_size", [None, 6])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_it_is_a_function_of_the_point_and_the_rounds_key(batch_size: int | None, dropout: float) -> None:
    problem = game(batch_size=batch_size, dropout=dropout)
    z_D, draws = problem.start(), Draws(1, 3, 0)
    state = torch.random.get_rng_state()
    first_D = problem.operator(0)(z_D, draws)
    problem.operator(1)(z_D + 1.0, Draws(1, 4, 1))
    assert np.array_equal(problem.operator(0)(z_D, draws), first_D)
    assert not np.array_equal(problem.operator(0)(z_D, Draws(1, 4, 0)), first_D)
    assert torch.equal(torch.random.get_rng_state(), state)  # the program's own random numbers go on as before


def test_problems_in_several_threads_do_not_share_their_dropout() -> None:
    def build() -> dict[str, nn.Module]:
        layers = [nn.Linear(32, 64), *(nn.Dropout(0.5) for _ in range(20)), nn.Linear(64, 1)]
        generator = torch.Generator().manual_seed(0)
        for parameter in (model := nn.Sequential(*layers)).parameters():
            nn.init.normal_(parameter, generator=generator)
        return {"model": model}

    def values(problem: ModuleGame) -> list[Any]:
        operator = problem.operator(0)
        return [operator(problem.start(), Draws(0, number, 0)) for number in range(40)]

    def loss(players: Any, batch: Any, chance: Any) -> torch.Tensor:
        return functional.mse_loss(players["model"](batch[0]), batch[1])

    data = ((np.ones((64, 32)), np.zeros((64, 1))),)
    problems = [game(build=build, loss=loss, data=data) for _ in range(4)]
    alone = values(problems[0])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for together in pool.map(values, problems):
            assert np.array_equal(together, alone)


@pytest.mark.parametrize("batch_size", [None, 6])
def test_the_mean_of_parts_and_of_accumulated_ones_is_the_whole(batch_size: int | None) -> None:
    problem, draws = game(batch_size=batch_size), Draws(1, 3, 0)
    z_D = problem.start()
    whole_D = problem.operator(0)(z_D, draws)
    parts = [problem.part(0, rank, 3)(z_D, draws) for rank in range(3)]
    assert not np.allclose(parts[0], parts[1])
    assert np.allclose(np.mean(parts, axis=0), whole_D, rtol=1e-12)
    split = game(batch_size=batch_size, accumulate=2)
    assert np.allclose(split.operator(0)(z_D, draws), whole_D, rtol=1e-12)
    with pytest.raises(ConfigError, match=r"does not divide into 5 equal parts \(ranks \* accumulate = 5 \* 1\)"):
        problem.part(0, 0, 5)


def test_players_have_losses_and_signs_of_their_own() -> None:
    def build() -> dict[str, nn.Module]:
        players: dict[str, nn.Module] = {"x": nn.Linear(1, 1, bias=False), "y": nn.Linear(1, 1, bias=False)}
        return players

    def zero_sum(players: Any, batch: Any, chance: Any) -> torch.Tensor:
        return (players["x"].weight * players["y"].weight + 2 * players["x"].weight).sum() + 0 * batch[0].sum()

    def general(players: Any, batch: Any, chance: Any) -> dict[str, torch.Tensor]:
        product = (players["x"].weight * players["y"].weight).sum()
        return {"x": product + 0 * batch[0].sum(), "y": 3.0 * product}

    z_D, data = np.array([0.5, -2.0]), ((np.ones((2, 1)),),)
    build_game = functools.partial(ModuleGame, build=build, data=data, precision="float64")
    found_D = build_game(loss=zero_sum, maximises=frozenset({"y"})).operator(0)(z_D, Draws(0, 0, 0))
    assert found_D.tolist() == [0.0, -0.5]  # (y + 2, -x)
    assert build_game(loss=general).operator(0)(z_D, Draws(0, 0, 0)).tolist() == [-2.0, 1.5]  # (y, 3 x)
    with pytest.raises(ConfigError, match="maximises must name players of x, y, got z"):
        build_game(loss=general, maximises=frozenset({"z"})).start()


def test_a_frozen_player_has_no_gradient_and_a_loss_names_players() -> None:
    def build() -> dict[str, nn.Module]:
        return {"model": Tied(), "frozen": nn.Linear(4, 4).requires_grad_(False)}

    def losses(*names: str) -> Any:
        return lambda players, batch, chance: dict.fromkeys(names, functional.mse_loss(players["model"](batch[0]), batch[1]))

    alone_D = game(loss=lambda *given: losses("model")(*given)["model"]).operator(0)(game().start(), Draws(0, 0, 0))
    for names in (("model", "frozen"), ("frozen", "model")):
        assert np.array_equal(game(build=build, loss=losses(*names)).operator(0)(game().start(), Draws(0, 0, 0)), alone_D)
    for names, got in ((("critic",), "critic"), ((), "none")):
        with pytest.raises(ConfigError, match=f"loss must be of players among model, frozen, got {got}"):
            game(build=build, loss=losses(*names)).operator(0)(game().start(), Draws(0, 0, 0))


def test_float32_and_bfloat16_come_near() -> None:
    z_D, draws = game().start(), Draws(0, 0, 0)
    exact_D = game().operator(0)(z_D, draws)
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 0.05)):
        found_D = game(precision=precision).operator(0)(z_D, draws)
        assert found_D.dtype == np.float64
        assert np.linalg.norm(found_D - exact_D) <= tolerance * np.linalg.norm(exact_D)


def test_compressed_training_in_the_reference_driver() -> None:
    problem = game(batch_size=6)
    method = METHODS["compressed_adamw"](problem, up=TopK(k=4), down=TopK(k=8), step_size=0.05, weight_decay=0.1)
    assert method.rule.decays.tolist() == [True] * 16 + [False] * 4
    found = simulate(problem, method, seed=0, stop=Stop(max_iterations=60, every=60), wire=LoopbackWire())
    again = simulate(game(batch_size=6), method, seed=0, stop=Stop(max_iterations=60, every=60), wire=LoopbackWire())
    assert np.array_equal(found.replica.z_D, again.replica.z_D)

    def loss(z_D: Any) -> float:
        model = problem.module(z_D)["model"]
        with torch.no_grad():
            return float(
                np.mean([functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y)) for x, y in problem.data])
            )

    assert loss(found.replica.z_D) < 0.7 * loss(problem.start())
    assert problem.merits(found.replica.z_D)["operator_norm"] > 0


def test_a_gradient_that_is_not_finite_is_said() -> None:
    problem = game()
    with pytest.raises(NotFiniteError, match="module game: the gradient of worker 0 is not finite"):
        problem.operator(0)(np.full(20, 1e200), Draws(0, 0, 0))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"batch_size": 13}, r"batch_size must lie in 1..12, samples of the smallest worker, got 13"),
        ({"precision": "int8"}, "precision must be one of float32, float64, bfloat16, got 'int8'"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"accumulate": 5}, "a batch of 12 does not divide into 5 equal parts"),
        ({"data": ()}, "data must hold arrays or a data set for each worker, got none"),
        (
            {"data": ((np.ones((3, 4)), np.ones((2, 4))),)},
            r"arrays of worker 0 must have one row a sample each, got \[2, 3\] rows",
        ),
        ({"data": ((),)}, r"arrays of worker 0 must have one row a sample each, got \[\] rows"),
    ],
)
def test_what_does_not_fit_is_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        game(**keys)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_here_is_named(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device must be one that torch has here, such as cpu or cuda:0, got '{device}'"):
        game(device=device).start()


def test_parameters_that_a_loss_does_not_see_have_no_gradient() -> None:
    def build() -> dict[str, nn.Module]:
        return {"model": Tied(), "idle": nn.Linear(2, 1), "empty": nn.Identity()}

    alone, more = game(), game(build=build)
    value_D = more.operator(0)(more.start(), Draws(0, 0, 0))
    assert np.array_equal(value_D[:20], alone.operator(0)(alone.start(), Draws(0, 0, 0)))
    assert np.array_equal(value_D[20:], np.zeros(3))


def test_any_method_trains_it() -> None:
    problem = game(batch_size=6)
    method = METHODS["innovations"](problem, up=Identity(), down=Identity(), step_size=0.05)
    assert simulate(problem, method, seed=0, stop=Stop(max_iterations=3, every=3), wire=LoopbackWire()).replica.iteration == 3


class Counting(nn.Module):
    """A module that writes a buffer, by one of the ways there are."""

    def __init__(self, write: Any) -> None:
        super().__init__()
        self.inner, self.write = Tied(), write
        self.seen: torch.Tensor
        self.register_buffer("seen", torch.zeros(4), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.write(self, x.detach())
        out: torch.Tensor = self.inner(x)
        return out


def _in_place(module: Any, x: torch.Tensor) -> None:
    module.seen.mul_(0.9).add_(x.mean(0))


def _another(module: Any, x: torch.Tensor) -> None:
    module.seen = module.seen + 1


def _behind_its_back(module: Any, x: torch.Tensor) -> None:
    module.seen.data.add_(1)


def normed(norm: Any) -> Any:
    return lambda: {"model": nn.Sequential(norm(nn.Linear(4, 4)), nn.Linear(4, 4))}


@pytest.mark.parametrize("write", [_in_place, _another, _behind_its_back])
def test_a_module_whose_forward_writes_a_buffer_is_refused_by_the_buffers_name(write: Any) -> None:
    with pytest.raises(ConfigError, match=r"other buffers that forward writes, got model\.seen of Counting; use LayerNorm"):
        game(build=lambda: {"model": Counting(write)}).start()


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (normed(nn.utils.spectral_norm), r"model\.0\.weight_u of Linear"),
        (normed(nn.utils.parametrizations.spectral_norm), r"model\.0\.parametrizations\.weight\.0\._u of _SpectralNorm"),
        (lambda: {"model": nn.Sequential(Tied(), nn.BatchNorm1d(4))}, r"model\.1\.running_mean of BatchNorm1d"),
    ],
)
def test_known_norms_that_write_buffers_are_refused(build: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"running statistics or other buffers that forward writes, got {name}"):
        game(build=build).start()


def test_a_buffer_that_is_written_only_later_is_noticed_then() -> None:
    calls: list[int] = []

    def late(module: Any, x: torch.Tensor) -> None:
        calls.append(1)
        if len(calls) > 4:
            _in_place(module, x)

    problem = game(build=lambda: {"model": Counting(late)})
    z_D, operator = problem.start(), problem.operator(0)
    operator(z_D, Draws(0, 0, 0))
    with pytest.raises(ConfigError, match=r"got model\.seen of Counting"):
        operator(z_D, Draws(0, 1, 0))


def test_what_a_loss_remembers_is_refused() -> None:
    calls: list[int] = []

    def loss(players: Any, batch: Any, chance: Any) -> torch.Tensor:
        calls.append(1)
        return len(calls) * squares(players, batch, chance)

    with pytest.raises(ConfigError, match="must be a function of the point and the round's key, got two gradients"):
        game(loss=loss).start()


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, lambda layer: layer])
def test_buffers_and_norms_that_nobody_writes_are_welcome(norm: Any) -> None:
    layers = nn.Sequential(norm(nn.Linear(4, 4)), nn.BatchNorm1d(4, track_running_stats=False))
    layers.register_buffer("scale", torch.ones(1))
    problem = game(build=lambda: {"model": layers})
    z_D, draws = problem.start(), Draws(0, 3, 0)
    first_D = problem.operator(0)(z_D, draws)
    problem.operator(0)(z_D + 1.0, Draws(0, 4, 0))
    assert np.array_equal(problem.operator(0)(z_D, draws), first_D)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"maximises": "model"}, "maximises must be a set of players' names, got the text 'model'"),
        ({"loss": lambda *given: squares(*given).item()}, r"loss must return a tensor, .* got float; return the tensor itself"),
        (
            {"loss": lambda *given: squares(*given).detach()},
            r"depends on the parameters, got a tensor of shape \(\) without a gradi",
        ),
        ({"loss": lambda players, batch, chance: players["model"](batch[0])}, r"one number as a tensor .* shape \(12, 4\)"),
        ({"loss": lambda *given: {"model": 1.0}}, "loss must be one number as a tensor .* got float"),
        ({"data": (([[1.0]], [[2.0]]),)}, "array 0 of worker 0 must be a numpy array, got list"),
        ({"data": iter(())}, "data must hold arrays or a data set for each worker, got tuple_iterator"),
        ({"data": ({1, 2},)}, "data of worker 0 must be a tuple of arrays .* or a Dataset or DataLoader of torch, got set"),
        (
            {"data": torch.utils.data.DataLoader([1, 2])},
            "data set for each worker, got DataLoader; torch.utils.data.random_split",
        ),
    ],
)
def test_common_slips_are_said_in_a_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        game(**keys).start()


def test_a_list_of_players_is_a_set_of_them() -> None:
    assert game(maximises=["model"]).maximises == frozenset({"model"})


def test_building_a_network_waits_for_a_computation_that_has_seeded_the_global_generator() -> None:
    """Layers draw their starts from it; in between, the other's dropout would be another one."""
    begun, built = threading.Event(), threading.Event()

    def build() -> dict[str, nn.Module]:
        begun.set()
        return {"model": Tied()}

    with seeded(0, "cpu"):
        builder = threading.Thread(target=lambda: (game(build=build).start(), built.set()))
        builder.start()
        assert not begun.wait(0.2), "it draws in the middle of another's computation"
    builder.join()
    assert built.is_set()


def test_a_narrow_start_is_the_memory_of_the_modules_and_its_own_each_time() -> None:
    problem = game(precision="float32")
    one_D = problem.start_narrow()
    assert one_D.dtype == np.float32
    assert np.array_equal(one_D, problem.start())
    with problem.lent(one_D) as players:
        first = players["model"].first.weight
        assert first.data_ptr() == one_D.ctypes.data
        assert not players["model"].training
    one_D += 1.0
    with problem.lent(one_D) as players:
        assert float(players["model"].first.bias[0].detach()) == one_D[16]
    two_D = problem.start_narrow()
    assert not np.shares_memory(one_D, two_D)
    assert np.array_equal(two_D, problem.start())
    assert game().start_narrow().dtype == np.float64, "float32 would not hold it"


def test_starts_of_large_modules_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_KEPT", 3)
    problem = game(precision="float32")
    start_D = problem.start()
    narrow_D = problem.start_narrow()
    narrow_D += 1.0  # as a method does that changes it in place
    assert np.array_equal(problem.start(), start_D)
    assert np.array_equal(problem.start_narrow(), start_D)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_disturbed_is_as_before_bit_for_bit(dtype: torch.dtype) -> None:
    flat = FlatModules({"model": Tied()}, dtype=dtype)
    z_D = np.array([0.0, -0.0, 1e-40, np.finfo(np.float32).max, -3.0] * 4)
    flat.load(z_D)
    before = flat.point.clone()
    with flat.disturbed():
        assert bool((flat.point != before).all())
        assert bool(torch.isfinite(flat.point).all())
    assert flat.point.numpy().tobytes() == before.numpy().tobytes()


def test_a_loss_that_remembers_is_refused_and_one_without_numbers_is_not() -> None:
    calls: list[int] = []

    def remembers(players: Any, batch: Any, chance: Any) -> torch.Tensor:
        calls.append(0)
        return squares(players, batch, chance) * len(calls)

    with pytest.raises(ConfigError, match="got two gradients for the same"):
        game(loss=remembers).start()
    nowhere = game(loss=lambda players, batch, chance: squares(players, batch, chance) * float("nan"))
    assert nowhere.dimension == 20  # NaN is alike, and told when it is asked for
