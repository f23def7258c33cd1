"""Pictures of an iterate: what a problem shows of it (samples of a generator, attacked inputs), as one grid for each name.

A problem offers them by a method beside those of `Problem`:

    def pictures(self, z_D: Vector) -> Mapping[str, NDArray]:     name -> (N, H, W), grey values in [0, 1]
"""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from saddlebag.algorithms.base import Problem
    from saddlebag.compression.payload import Vector

__all__ = ["draw_pictures", "grid", "offers_pictures", "write_pictures"]

_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_SIDE = 56  # pixels that a small picture is magnified to, at least
_LINE = 2  # pixels between pictures
_GREY = 0.5


def offers_pictures(problem: Problem) -> bool:
    """Whether the problem has something to show."""
    return callable(getattr(problem, "pictures", None))


def draw_pictures(problem: Problem, z_D: Vector) -> dict[str, npt.NDArray[np.float64]]:
    """The grids (height, width) of a problem's pictures at z, by name.

    Raises:
        ConfigError: the problem offers something else than (N, H, W) in [0, 1] under plain names.
    """
    shown: Mapping[str, Any] = getattr(problem, "pictures")(z_D)  # noqa: B009 (no part of the protocol)
    grids = {}
    for name, pictures in shown.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(f"pictures of {problem.name}: a name has letters, digits and _ (64 at most), got {name!r}")
        grids[name] = grid(np.asarray(pictures, np.float64), f"pictures of {problem.name}: {name}")
    return grids


def grid(pictures_NHW: npt.NDArray[np.float64], what: str = "pictures") -> npt.NDArray[np.float64]:
    """N pictures side by side in rows of about sqrt(N), small ones magnified, with grey lines between.

    Raises:
        ConfigError: they are not (N, H, W) with N >= 1, or hold values outside [0, 1].
    """
    if pictures_NHW.ndim != 3 or not pictures_NHW.size:
        raise ConfigError(f"{what} must be (N, H, W) with N >= 1, got the shape {pictures_NHW.shape}")
    if not (pictures_NHW.min() >= 0 and pictures_NHW.max() <= 1):  # NaN, too
        raise ConfigError(f"{what} must lie in [0, 1], got {pictures_NHW.min():g} to {pictures_NHW.max():g}")
    count, height, width = pictures_NHW.shape
    columns = math.ceil(math.sqrt(count))
    rows, scale = math.ceil(count / columns), max(1, _SIDE // max(height, width))
    cell_height, cell_width = height * scale + _LINE, width * scale + _LINE
    out = np.full((rows * cell_height + _LINE, columns * cell_width + _LINE), _GREY)
    for number, picture in enumerate(pictures_NHW.repeat(scale, 1).repeat(scale, 2)):
        top, left = (cell * size + _LINE for cell, size in zip(divmod(number, columns), (cell_height, cell_width), strict=True))
        out[top : top + height * scale, left : left + width * scale] = picture
    return out


def _png(grid_YX: npt.NDArray[np.float64]) -> bytes:
    from matplotlib.image import imsave  # here, for matplotlib takes half a second

    file = io.BytesIO()
    imsave(file, grid_YX, vmin=0.0, vmax=1.0, cmap="gray", format="png")
    return file.getvalue()


def write_pictures(
    grids: Mapping[str, npt.NDArray[np.float64]], folder: Path, suffix: str = ""
) -> dict[str, tuple[bytes, int, int]]:
    """Write each grid as folder/name + suffix.png; returns the files with heights and widths."""
    folder.mkdir(parents=True, exist_ok=True)
    pngs = {name: (_png(grid_YX), *grid_YX.shape) for name, grid_YX in grids.items()}
    for name, (png, _, _) in pngs.items():
        write_atomically(folder / f"{name}{suffix}.png", png)
    return pngs
