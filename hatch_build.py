"""The README for a package page: what hatchling asks when it builds the metadata.

In the repository links and pictures are relative, so that they lead to the branch one looks at. A package page has no files
beside it: there they begin with the home in pyproject.toml's [project.urls].
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")


class AbsoluteReadme(MetadataHookInterface):
    """Gives the dynamic field `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, metadata["urls"]["Homepage"])}


def absolute(text: str, home: str) -> str:
    """Markdown whose relative links lead to files of a repository, and whose pictures are the files themselves."""

    def link(found: re.Match[str]) -> str:
        picture, words, path = found.groups()
        return f"{picture}[{words}]({home}/{'raw' if picture else 'blob'}/main/{path})"

    return _RELATIVE.sub(link, text)
