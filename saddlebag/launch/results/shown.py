"""What a problem has to show of an iterate, as files: pictures, texts, and its networks, which load into the plain models.

It offers them by the capabilities `ShowsPictures` (samples of a generator, attacked inputs: one grid for each name), `HasTexts`
(guesses at hidden words, classes: tables in Markdown) and `HasModules` (safetensors under the names of their own `state_dict`).
"""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.capabilities import HasTokenizer, WritesItself
from saddlebag.algorithms.lean import LendsModules
from saddlebag.errors import ConfigError
from saddlebag.proto.checkpoint import write_atomically
from saddlebag.proto.pieces import tensor_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from saddlebag.algorithms.capabilities import HasModules, HasTexts, ShowsPictures
    from saddlebag.compression.payload import Vector

__all__ = ["draw_pictures", "grid", "write_modules", "write_pictures", "write_texts"]

_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_SIDE = 56  # pixels that a small picture is magnified to, at least
_LINE = 2  # pixels between pictures
_GREY = 0.5


def draw_pictures(problem: ShowsPictures, z_D: Vector) -> dict[str, npt.NDArray[np.float64]]:
    """The grids (height, width) of a problem's pictures at z, by name.

    Raises:
        ConfigError: the problem offers something else than (N, H, W) in [0, 1] under plain names.
    """
    grids = {}
    for name, pictures in problem.pictures(z_D).items():
        if not _NAME.fullmatch(name):
            raise ConfigError(f"pictures: a name has letters, digits and _ (64 at most), got {name!r}")
        grids[name] = grid(np.asarray(pictures, np.float64), f"pictures: {name}")
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


def write_texts(problem: HasTexts, z_D: Vector, folder: Path) -> dict[str, str]:
    """Write each table at z as folder/name.md; returns them by name."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {name: _markdown(rows) for name, rows in problem.texts(z_D).items()}
    for name, text in written.items():
        write_atomically(folder / f"{name}.md", text.encode())
    return written


def _markdown(rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(_cell(text) for text in row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """What a corpus holds must not end a cell or be taken for markup of the page."""
    for letter in "\\|`*_<>&":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())


def write_modules(problem: HasModules, z_D: Vector, folder: Path) -> list[Path]:
    """Write each module at z: folder/name.safetensors, or the folder that its own `save_pretrained` writes.

    The file holds every name of the module's `state_dict`, tied ones too, so it loads by

        module.load_state_dict(safetensors.torch.load_file(path))

    Returns:
        What was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with problem.lent(z_D) if isinstance(problem, LendsModules) else contextlib.nullcontext(problem.module(z_D)) as modules:
        for name, module in modules.items():
            arrays = {key: tensor.detach().cpu().numpy() for key, tensor in module.state_dict().items()}
            if isinstance(module, WritesItself):
                path = folder / name
                taken = "state_dict" in inspect.signature(module.save_pretrained).parameters
                module.save_pretrained(path, **({"state_dict": _apart(arrays)} if taken else {}))
                if isinstance(problem, HasTokenizer) and problem.tokenizer is not None:
                    problem.tokenizer.save_pretrained(path)
            else:
                path = folder / f"{name}.safetensors"
                write_atomically(path, tensor_file(arrays))
            written.append(path)
    return written


def _apart(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Tensors in the memory of the arrays, each a storage of its own: transformers copies those that share one."""
    import torch  # here, for it takes a second

    return {name: torch.from_numpy(array) for name, array in arrays.items()}
