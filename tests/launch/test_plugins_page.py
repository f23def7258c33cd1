"""The page on plug-ins: its compressor and its method pass their laws, and the run converges."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


def test_the_page_s_code_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    (tmp_path / "page.py").write_text(code)
    runpy.run_path(str(tmp_path / "page.py"), run_name="page")
    assert "reached, relative_error" in capsys.readouterr().out
