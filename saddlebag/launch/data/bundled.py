"""The data sets that scikit-learn brings, without the second that importing it takes."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["bundled"]

_FILES = {"breast_cancer": ("breast_cancer.csv", 1), "digits": ("digits.csv.gz", 0)}  # and how many lines are no rows


def bundled(name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Rows and labels of "breast_cancer" (569 x 30), "diabetes" (442 x 10) or "digits" (1,797 x 64), as scikit-learn has them.

    The files of the installation are read directly where they lie in their usual place; else, and for "diabetes", whose
    columns are scaled, scikit-learn is asked.
    """
    spec = importlib.util.find_spec("sklearn")
    for folder in spec.submodule_search_locations or () if spec else ():
        if name in _FILES:
            file, head = _FILES[name]
            path = Path(folder) / "datasets" / "data" / file
            if path.is_file():
                with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
                    table = np.loadtxt(lines, delimiter=",", skiprows=head)
                return np.ascontiguousarray(table[:, :-1]), table[:, -1].copy()
    from sklearn import datasets

    loaders = {"breast_cancer": datasets.load_breast_cancer, "diabetes": datasets.load_diabetes, "digits": datasets.load_digits}
    rows_NF, label_N = loaders[name](return_X_y=True)
    return np.asarray(rows_NF, np.float64), np.asarray(label_N, np.float64)
