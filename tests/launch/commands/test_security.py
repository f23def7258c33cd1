from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.commands.security import read_token

if TYPE_CHECKING:
    from pathlib import Path


def test_the_token_comes_from_the_file_or_else_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SADDLEBAG_TOKEN", "env ")
    (tmp_path / "token").write_text("file\n")
    assert read_token(tmp_path / "token") == "file"
    assert read_token(None) == "env"
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_token(tmp_path / "token")
