"""Groups of samples, which may intersect, declared over the columns of a table.

Shapes: N = samples, G = groups.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.compression.payload import Vector

__all__ = ["Groups", "declare_groups"]

Mask = npt.NDArray[np.bool_]

MAX_GROUPS = 4096  # the averages of all groups are held as one matrix


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Which samples belong to which group.

    Attributes:
        names: of the groups.
        member_GN: bool (G, N); every group has a member.

    Example:
        >>> groups = Groups(("all", "old"), np.array([[True, True, True], [False, True, False]]))
        >>> groups.sizes_G.tolist(), groups.mean_GN[0].round(2).tolist()
        ([3, 1], [0.33, 0.33, 0.33])
    """

    names: tuple[str, ...]
    member_GN: Mask

    def __post_init__(self) -> None:
        if self.member_GN.ndim != 2 or not 1 <= len(self.names) == len(self.member_GN):
            raise ConfigError(f"groups need a row of members for each of {len(self.names)} names, got {self.member_GN.shape}")
        for name, size in zip(self.names, self.sizes_G, strict=True):
            if size == 0:
                raise ConfigError(f"group {name!r} has no samples")

    @functools.cached_property
    def sizes_G(self) -> npt.NDArray[np.int64]:
        """Samples of each group, int64 (G,)."""
        return np.asarray(np.count_nonzero(self.member_GN, axis=1), np.int64)

    @functools.cached_property
    def mean_GN(self) -> npt.NDArray[np.float64]:
        """Each row averages over a group, float64 (G, N)."""
        return self.member_GN / self.sizes_G[:, None]


def declare_groups(declarations: Sequence[str], columns: Mapping[str, npt.NDArray[np.generic]], *, min_rows: int = 1) -> Groups:
    """Groups from declarations such as "race", "race*sex" or "age@30,45,60".

    A column of text gives a group for each value. A column of numbers is cut at the given bounds: "age@30,45" gives
    age<30, 30<=age<45 and age>=45. A product gives the intersections. A sample whose value is missing is in no group of
    that column. The groups of all declarations stand together and may intersect.

    Args:
        declarations: at least one.
        columns: name -> text, or float64 with NaN where missing; (N,) each.
        min_rows: smaller groups are left out.

    Raises:
        ConfigError: a declaration is malformed, names no column, or no group is left.

    Example:
        >>> columns = {"sex": np.array(["f", "m", "f"]), "age": np.array([20.0, 50.0, 60.0])}
        >>> declare_groups(["sex", "sex*age@40"], columns).names
        ('sex=f', 'sex=m', 'sex=f, age<40', 'sex=f, age>=40', 'sex=m, age>=40')
    """
    if not declarations:
        raise ConfigError("groups: at least one declaration is needed, such as 'race*sex' or 'age@30,45,60'")
    names, masks = [], []
    for declaration in declarations:
        factors = [_factor(text.strip(), declaration, columns) for text in declaration.split("*")]
        for parts in itertools.product(*factors):
            mask_N = np.logical_and.reduce([mask for _, mask in parts])
            if np.count_nonzero(mask_N) >= max(1, min_rows):
                names.append(", ".join(name for name, _ in parts))
                masks.append(mask_N)
            if len(names) > MAX_GROUPS:
                raise ConfigError(f"groups: {declaration!r} leads to more than {MAX_GROUPS} groups")
    if not names:
        raise ConfigError(f"groups: none has {min_rows} samples")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"groups: {twice!r} is declared twice")
    return Groups(tuple(names), np.array(masks))


def _factor(text: str, declaration: str, columns: Mapping[str, npt.NDArray[np.generic]]) -> list[tuple[str, Mask]]:
    """The groups of one column."""
    name, at, cuts = text.partition("@")
    if name not in columns:
        known = ", ".join(columns) or "none; the data set has no named columns"
        raise ConfigError(f"groups: {declaration!r} names the column {name!r}; known: {known}")
    column_N = columns[name]
    if column_N.dtype.kind == "f":
        if not at:
            raise ConfigError(f"groups: column {name!r} holds numbers and needs bounds, such as '{name}@10,20'")
        return _bands(name, column_N.astype(np.float64), _bounds(cuts, declaration))
    if at:
        raise ConfigError(f"groups: column {name!r} holds text and takes no bounds, got {text!r}")
    return [(f"{name}={value}", column_N == value) for value in np.unique(column_N) if value != ""]


def _bounds(cuts: str, declaration: str) -> list[float]:
    number = r"\s*-?\d+(\.\d+)?\s*"
    if not re.fullmatch(f"{number}(,{number})*", cuts):
        raise ConfigError(f"groups: bounds must be numbers separated by commas, got {declaration!r}")
    bounds = [float(cut) for cut in cuts.split(",")]
    if any(low >= high for low, high in itertools.pairwise(bounds)):
        raise ConfigError(f"groups: bounds must ascend, got {declaration!r}")
    return bounds


def _bands(name: str, value_N: Vector, bounds: list[float]) -> list[tuple[str, Mask]]:
    bands: list[tuple[str, Mask]] = [(f"{name}<{bounds[0]:g}", value_N < bounds[0])]
    for low, high in itertools.pairwise(bounds):
        bands.append((f"{low:g}<={name}<{high:g}", (value_N >= low) & (value_N < high)))
    return [*bands, (f"{name}>={bounds[-1]:g}", value_N >= bounds[-1])]
