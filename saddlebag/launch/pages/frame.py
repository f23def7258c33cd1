"""A page of HTML that is one file: style and script are in it, and a policy in its head forbids any request."""

from __future__ import annotations

from html import escape
from pathlib import Path

__all__ = ["head_cells", "number_cell", "page"]

_POLICY = (
    "default-src 'none'; {images}style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def page(title: str, body: str, *, style: str = "", script: str = "", pictures: bool = False) -> str:
    """The whole page.

    Args:
        title: text.
        body: HTML, in which what came from recipes and data is escaped.
        style: rules after those of the house.
        script: after the house's, which sorts tables.
        pictures: whether the page holds pictures in `data:` addresses.
    """
    ours, sorts = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = _POLICY.format(images="img-src data:; " if pictures else "")
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{ours}{style}</style></head>',
            f"<body>{body}<script>{sorts}{script}</script></body></html>\n",
        ]
    )


def head_cells(heads: list[str]) -> str:
    """The head of a table whose columns sort by a click."""
    return "".join(f'<th scope="col"><button type="button">{escape(head)}</button></th>' for head in heads)


def number_cell(head: str, value: float | None, text: str) -> str:
    """A cell that shows `text` and is sorted by `value`; on a phone its head stands before it."""
    return f'<td data-head="{escape(head)}" data-value="{"" if value is None else repr(float(value))}">{escape(text)}</td>'
