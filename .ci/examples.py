"""Docstrings say `Example:` where they have one; griffe, which reads them for the site, knows only `Examples:` as code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Renames the section on its way to the page."""

    def on_instance(self, *, obj: Object, **others: Any) -> None:
        """Of every function, class and attribute."""
        del others
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
