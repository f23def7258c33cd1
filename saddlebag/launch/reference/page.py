"""The reference of recipes as a page, and what is said of a key at the terminal."""

from __future__ import annotations

import itertools
import textwrap
from typing import TYPE_CHECKING

from saddlebag.launch.reference.keys import Key, keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from saddlebag.launch.reference.keys import Kind

__all__ = ["paragraphs", "reference_page"]

_HEAD = """# Every key of a recipe

Written from the code by `make recipes`; `saddlebag explain KEY` says the same at the terminal, and `saddlebag schema` gives
editors a JSON Schema. Any key can be overridden: `--set method.up.step=0.5`. Paths in a recipe start at its folder, or else at
the working directory; `saddlebag list recipes` shows recipes that run by name.
"""
_INTRODUCTIONS: dict[Kind, str] = {
    "run": "Recipes of `saddlebag run`, `compare`, `server`, `worker` and so on. [problem] and [method] must be there.",
    "groupwise": "Recipes of `saddlebag groupwise run` and `serve`. [data], [features], [label] and groups must be there.",
}
_TITLES: dict[Kind, str] = {"run": "Games and networks", "groupwise": "Groupwise studies and services"}
_NOTES = {
    "method": "Each [[baseline]] has the same keys.",
    "method.up": "[method.down] has the same keys; so have compressors inside of compressors.",
    "groups": "One line for each group.",
    "compare": "Read by `saddlebag compare` only.",
}


def paragraphs(found: Sequence[Key]) -> Iterator[str]:
    """A few lines for each key; what several plug-ins say alike is said once."""
    for _, group in itertools.groupby(found, key=lambda key: (key.kind, key.path, key.noun, key.usual, key.meaning)):
        same = [*group]
        key, takers = same[0], [each.of for each in same if each.of]
        of = f"  of {', '.join(takers)}" if takers else ""
        where = "  (groupwise)" if key.kind == "groupwise" else ""
        meaning = textwrap.fill(key.meaning, 100, initial_indent="    ", subsequent_indent="    ")
        values = f"    {key.noun}; default: {key.usual}" + (f"; e.g. {key.example}" if key.example else "")
        yield f"{key.path}{of}{where}\n{meaning}\n{values}"


def reference_page() -> str:
    """All keys as Markdown, those that other packages' plug-ins take left out."""
    parts = [_HEAD]
    kinds: tuple[Kind, ...] = ("run", "groupwise")
    for kind in kinds:
        parts.append(f"\n## {_TITLES[kind]}\n\n{_INTRODUCTIONS[kind]}\n")
        for table, group in itertools.groupby(keys(kind, own=True), key=lambda key: key.table):
            title = f"[{table}]" if table else "At the top"
            parts.append(f"\n### {title}\n" + (f"\n{_NOTES[table]}\n" if table in _NOTES else ""))
            for of, members in itertools.groupby(group, key=lambda key: key.of):
                parts.append((f'\n`name = "{of}"`\n' if of else "") + _table(members))
    return "".join(parts)


def _table(found: Iterable[Key]) -> str:
    lines = ["", "| key | value | default | meaning | example |", "|:---|:---|:---|:---|:---|"]
    for key in found:
        code = f"`{key.example}`" if key.example else ""
        cells = (f"`{key.name}`", _shortened(key), key.usual, key.meaning, code)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _shortened(key: Key) -> str:
    """The type in words; a name that has dozens is left to the list."""
    return "text" if key.noun.count(" or ") > 8 else key.noun
