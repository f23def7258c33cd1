from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from saddlebag.launch.data.bundled import bundled


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits"])
def test_what_is_read_is_what_scikit_learn_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_NF, label_N = bundled(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    asked_NF, asked_N = bundled(name)
    assert rows_NF.dtype == asked_NF.dtype == np.float64
    assert rows_NF.flags.c_contiguous
    np.testing.assert_array_equal(rows_NF, asked_NF)
    np.testing.assert_array_equal(label_N, asked_N)


def test_scikit_learn_is_not_imported_for_the_main_job() -> None:
    text = (
        "import sys\n"
        "from saddlebag.launch.recipe.recipe import load_recipe\n"
        "from saddlebag.launch.build import build_problem\n"
        "build_problem(load_recipe('robust_logistic'))\n"
        "assert not {'sklearn', 'torch', 'matplotlib', 'rich'} & sys.modules.keys(), sorted(sys.modules)\n"
    )
    ended: Any = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
