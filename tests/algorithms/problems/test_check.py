"""The laws of problems: ours pass, and each of these breaks one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import saddlebag as sb
from saddlebag.algorithms.agreed.common_part import CommonPart
from saddlebag.algorithms.problems import BilinearGame, check_problem

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Constants

ROWS_NF = np.random.default_rng(0).standard_normal((24, 3))
LABELLED = {"data": (ROWS_NF, ROWS_NF[:, 0] + 0.1 * ROWS_NF[:, 1] > 0)}
GIVEN: dict[str, dict[str, Any]] = {
    "bilinear": {"n": 4},
    "finite_bilinear": {"n": 4},
    "fixed_point": {},
    "logistic_regression": LABELLED,
    "matrix_game": {},
    "quadratic": {},
    "robust_least_squares": {"data": (ROWS_NF, ROWS_NF[:, 0])},
    "robust_logistic": LABELLED,
    "worker_robust": LABELLED,
}


@pytest.mark.parametrize("name", GIVEN)
def test_ours_pass(name: str) -> None:
    check_problem(sb.make_problem(name, workers=2, **GIVEN[name]))


@dataclasses.dataclass(frozen=True)
class Remembers(BilinearGame):
    calls: list[int] = dataclasses.field(default_factory=list)

    def operator(self, worker: int) -> Any:
        def ask(z_D: Any, draws: Any) -> Any:
            self.calls.append(worker)
            return z_D + len(self.calls)

        return ask


class Expands(BilinearGame):
    def prox(self, v_D: Any, step_size: float) -> Any:
        return v_D * (1.0 + step_size)


class Boasts(BilinearGame):
    @property
    def constants(self) -> Constants:  # type: ignore[override]
        true = super().constants
        return dataclasses.replace(true, lipschitz=true.lipschitz / 100)


class Steep(BilinearGame):
    @property
    def constants(self) -> Constants:  # type: ignore[override]
        return dataclasses.replace(super().constants, strong_monotonicity=1.0)


class Astray(BilinearGame):
    @property
    def solution(self) -> Any:  # type: ignore[override]
        return np.ones(self.dimension)


class Misspelt(BilinearGame):
    tensor = ()


class Overstates(BilinearGame):
    def common_part(self) -> CommonPart:
        return CommonPart.of((self.dimension, 1.0, 0.0))


class Reverses(BilinearGame):
    def common_part(self) -> CommonPart:
        return CommonPart.of((self.dimension, -1.0, 0.0))


class Undefined(BilinearGame):
    def merits(self, z_D: Any) -> Any:
        return {"error": float("nan")}


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (Remembers, "is no function"),
        (Expands, "expands"),
        (Boasts, "L says"),
        (Steep, "mu says 1"),
        (Astray, "solution is none"),
        (Misspelt, "did you mean 'tensors'"),
        (Undefined, "not finite"),
        (Overstates, "it is not monotone"),
        (Reverses, "a negative slope"),
    ],
)
def test_a_broken_law_is_named(kind: type[BilinearGame], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_problem(kind(n=4, num_workers=2))
