from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from saddlebag.compression import Draws, TopK, make_compressor
from saddlebag.compression.kernels import loader, plain

NO_IMPORT = """
import sys
import numpy as np
from saddlebag.compression import Draws, Sum, TopK
import saddlebag.server.core
total = Sum(100_000)
total.add(TopK(k=100).encode(np.arange(100_000.0), Draws(0, 0)))
total.mean(1)
print([name for name in ("numba", "llvmlite", "torch", "triton") if name in sys.modules])
"""


def test_short_vectors_import_no_compiler() -> None:
    run = subprocess.run([sys.executable, "-c", NO_IMPORT], capture_output=True, text=True, check=False)
    assert run.stdout == "[]\n", run.stderr


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> Any:
    real = importlib.import_module

    def refuse(name: str, package: str | None = None) -> Any:
        if "compiled" in name:
            raise ImportError("No module named 'numba'")
        return real(name, package)

    for cached in (loader.compiled, loader.compiled_rounding):
        cached.cache_clear()
    monkeypatch.setattr(loader.importlib, "import_module", refuse)
    monkeypatch.setattr(loader, "LARGE", 1)
    yield
    for cached in (loader.compiled, loader.compiled_rounding):
        cached.cache_clear()


@pytest.mark.usefixtures("without_numba")
def test_without_numba_everything_works() -> None:
    assert loader.compiled() is None
    assert loader.kernels_for(1 << 30) is plain
    x_D = np.arange(20_000.0)
    assert loader.rounding_for(x_D) is None
    assert TopK(k=3).encode(x_D, Draws(0, 0)).index_K.tolist() == [19_997, 19_998, 19_999]
    assert len(make_compressor("block_int8").encode(x_D, Draws(0, 0, 0)).level_D) == 20_000


def test_vectors_that_compiled_quantisers_do_not_take() -> None:
    long_D = np.zeros(loader.LARGE, np.float16)
    assert loader.rounding_for(long_D) is None
    assert loader.rounding_for(np.zeros(loader.LARGE - 1)) is None
