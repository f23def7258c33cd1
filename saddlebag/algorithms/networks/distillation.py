"""Federated distillation: clients with unlike models agree on the classes of public pictures, and exchange nothing else.

z are the probabilities of C classes for each of P public pictures that have no labels. Worker m keeps a model of its own, of
any size, as its local block, and F_m is how far the consensus lies from what this model says after its own steps:

    theta_m <- steps of Adam on  mean CE(private pictures) + weight mean CE(z, softmax(logits / temperature))
    F_m(z) = a_m (z - p_m),      p_m = softmax(logits / temperature) on the public pictures

a_m is 0 on pictures that the model gives to a class of which the worker holds no picture, else 1: there it is asleep and leaves
the consensus as it was (sleeping experts, Freund, Schapire, Singer, Warmuth 1997). A step of 1 of `compressed_sgd` without
momentum makes z the mean of what those say who are awake, and of z for those who sleep. Models never travel, so they need not
be alike.

Sources: Li, Wang 2019, "FedMD"; Lin, Kong, Stich, Jaggi 2020; temperatures Hinton, Vinyals, Dean 2015. Differs: what travels is
an innovation, compressed with memory. Experts' weights are 0 or 1, not of their regrets, for which labels would be needed.

Shapes: P = public pictures, C = classes, D = P C, E = weights of a worker's model, N = its pictures, B = a batch.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from saddlebag.algorithms.networks.chance import alone
from saddlebag.algorithms.networks.pruning.judge import check_hidden
from saddlebag.algorithms.problems.data.given import require_pictures
from saddlebag.algorithms.problems.data.shards import Division, DivisionKeys
from saddlebag.compression.draws import Draws, uniform_subset
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from saddlebag.algorithms.base import Constants, Operator
    from saddlebag.algorithms.networks.images.pictures import Images
    from saddlebag.compression.payload import Vector

__all__ = ["distillation"]

_STEP = 3e-3  # of Adam, begun anew in every round


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Client:
    """The operator of a worker: its pictures, and the model that it keeps as its local block.

    Attributes:
        private: its pictures, float32 (N, H, W), and their labels.
        public_PHW: the public pictures.
        hidden: neurons of each hidden layer of its model.
        classes: C.
        steps, batch: of its own training in a round.
        temperature, weight: of distillation.
        seed: of the model's start.
    """

    private: tuple[Any, Any]
    public_PHW: Any
    hidden: tuple[int, ...]
    classes: int
    steps: int
    batch: int
    temperature: float
    weight: float
    seed: int

    @property
    def block_size(self) -> int:
        """E."""
        return len(self._start)

    @functools.cached_property
    def _start(self) -> Vector:
        import torch

        parameters = self.model().parameters()
        start_E: Vector = torch.nn.utils.parameters_to_vector(parameters).detach().double().numpy()
        return start_E

    def model(self, block_E: Vector | None = None) -> Any:
        """The model whose weights lie so far from its start."""
        import torch

        from saddlebag.algorithms.networks.pruning.perceptron import Perceptron

        with alone(), torch.random.fork_rng(devices=[]):  # layers draw before they are given their start
            network = Perceptron((self.public_PHW[0].size, *self.hidden, self.classes), seed=self.seed)
        if block_E is not None:
            value = torch.from_numpy(self._start + block_E).float()
            torch.nn.utils.vector_to_parameters(value, network.parameters())
        return network

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        """F_m with a model that has learnt nothing before this round."""
        return self.step(z_D, np.zeros(self.block_size), draws)[0]

    def step(self, z_D: Vector, block_E: Vector, draws: Draws) -> tuple[Vector, Vector]:
        """F_m and the model's weights after its own steps."""
        import torch
        from torch.nn import functional

        network, public = self.model(block_E), torch.from_numpy(self.public_PHW)
        (x, y), goal = (torch.from_numpy(each) for each in self.private), torch.from_numpy(z_D).float().view(-1, self.classes)
        optimizer = torch.optim.Adam(network.parameters(), lr=_STEP)
        told = bool(draws.round)  # the first consensus says nothing
        for number in range(self.steps):
            stream = draws.within(number).own(Purpose.BATCH)
            rows = uniform_subset(stream, len(x), min(self.batch, len(x)))
            loss = functional.cross_entropy(network(x[rows]), y[rows])
            if told and self.weight > 0:
                shown = uniform_subset(draws.within(number).own(Purpose.SAMPLE), len(public), min(self.batch, len(public)))
                loss = loss + self.weight * functional.cross_entropy(network(public[shown]) / self.temperature, goal[shown])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        with torch.no_grad():
            said_PC = (network(public) / self.temperature).softmax(1).double().numpy()
            weight_E = torch.nn.utils.parameters_to_vector(network.parameters()).double().numpy()
        awake_P = np.isin(said_PC.argmax(1), np.unique(self.private[1]))
        value_PC = (z_D.reshape(said_PC.shape) - said_PC) * awake_P[:, None]
        return value_PC.reshape(-1), weight_E - self._start


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Distillation:
    """The problem; see the module.

    Attributes:
        clients: the workers' operators.
        public_P: the classes of the public pictures, for the merit alone.
        classes: C.
        name: of the problem.
    """

    clients: tuple[Client, ...]
    public_P: npt.NDArray[np.int64]
    classes: int
    name: str = "distillation"

    local = True  # workers keep blocks
    unconstrained = True
    constants: Constants | None = None

    @property
    def dimension(self) -> int:
        return len(self.public_P) * self.classes

    @property
    def num_workers(self) -> int:
        return len(self.clients)

    def start(self) -> Vector:
        return np.full(self.dimension, 1.0 / self.classes)

    def operator(self, worker: int) -> Operator:
        return self.clients[worker]

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        return v_D

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """error, the share of public pictures whose likeliest class is wrong, and loss, the mean of -log p of the right one."""
        said_PC = z_D.reshape(-1, self.classes)
        right_P = np.clip(said_PC[np.arange(len(said_PC)), self.public_P], 1e-12, None)
        return {"error": float((said_PC.argmax(1) != self.public_P).mean()), "loss": float(-np.log(right_P).mean())}


def distillation(
    data: Images | None,
    *,
    num_workers: int,
    models: Sequence[Sequence[int]] = ((64,), (32, 16), (128, 32)),
    public: int = 200,
    local_steps: int = 20,
    batch_size: int = 32,
    temperature: float = 1.0,
    weight: float = 1.0,
    **division: Unpack[DivisionKeys],
) -> Distillation:
    """The problem; its merits are of the public pictures, whose labels no worker is told.

    Args:
        data: pictures with labels; those held out are the public ones.
        num_workers: among whom the others are divided.
        models: the hidden layers of each worker's perceptron, in turn.
        public: P, public pictures.
        local_steps: of a worker in a round.
        batch_size: B, of its own pictures and of public ones.
        temperature: above 0; what is said, and learnt from, is softmax(logits / temperature).
        weight: of what is learnt from the others.
        **division: see `Division`.

    Raises:
        ConfigError: there are no pictures, or a parameter is out of range.

    Example:
        >>> import saddlebag as sb
        >>> problem = sb.make_problem("distillation", data="digits", workers=2, public=50, local_steps=2)
        >>> problem.dimension, [client.block_size for client in problem.clients]
        (500, [4810, 2778])
    """
    data = require_pictures("distillation", data)
    _check(models, {"public": public, "local_steps": local_steps, "batch_size": batch_size})
    if not 0 < temperature < np.inf or not 0 <= weight < np.inf:
        raise ConfigError(f"temperature must be positive and weight at least 0, got {temperature} and {weight}")
    keys: Any = Division(**division)
    judging, rows = data.shares(num_workers, split=keys.split, seed=keys.seed)
    if public > len(judging.labels_N):
        raise ConfigError(f"public must be at most {len(judging.labels_N)}, the pictures that are held out, got {public}")
    shown_PHW, classes = judging.images_NHW[:public].astype(np.float32), int(data.labels_N.max()) + 1
    clients = tuple(
        Client(
            private=(data.images_NHW[index].astype(np.float32), data.labels_N[index]),
            public_PHW=shown_PHW,
            hidden=tuple(models[worker % len(models)]),
            classes=classes,
            steps=local_steps,
            batch=batch_size,
            temperature=temperature,
            weight=weight,
            seed=keys.seed + worker,
        )
        for worker, index in enumerate(rows)
    )
    return Distillation(
        clients=clients, public_P=judging.labels_N[:public], classes=classes, name=f"distillation on {data.name}"
    )


def _check(models: object, counts: Mapping[str, object]) -> None:
    if not isinstance(models, list | tuple) or not models:
        raise ConfigError(f"models must be a list of lists, hidden layers by worker, got {models!r}")
    for hidden in models:
        check_hidden(hidden)
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")


distillation.reads = "images"  # type: ignore[attr-defined]
