"""What `mkdocs` needs beside the pages of docs/: the repository's own front pages, the sources they link to, the API.

A hook of mkdocs, named in mkdocs.yml. Links that lead out of docs/ are good in the repository; here each gets a page.
"""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, InclusionLevel

import saddlebag

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
FRONT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Pages of the repository's root, and their names here."""

_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#:]+)(#[^)\s]*)?(\))")  # [text](target#anchor), no address
_LANGUAGES = {".py": "python", ".toml": "toml", ".proto": "protobuf", ".sh": "bash", ".json": "json"}
_API = {
    "Making things": ("make_", "list_"),
    "Running and linking": ("simulate", "join", "attach", "LinkCallback", "Groupwise", "ShardedClient"),
    "Checking a plug-in": ("check_",),
    "Problems and results": ("Constants", "Dataset", "FixedPoint", "ModuleGame", "Outcome", "Record", "Stop", "TorchGame"),
}
"""Heading -> how its public names begin; the rest are errors."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the front pages, the API, and a page for each file outside docs/ that a page links to."""
    for name, page in FRONT.items():
        files.append(File.generated(config, page, content=_moved((ROOT / name).read_text(encoding="utf-8"), "", page)))
    files.append(File.generated(config, "api.md", content=_api()))
    pages = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    for target in sorted({target for page in (*FRONT, *pages) for target in _outside(page)}):
        files.append(File.generated(config, _page_of(target), content=_source(target), inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links of the pages of docs/ to where their targets are here."""
    del config, files
    uri = page.file.src_uri
    if page.file.generated_by is not None:
        return markdown
    return _moved(markdown, f"docs/{posixpath.dirname(uri)}", uri)


def _target(link: str, folder: str) -> str:
    """The path of a link's target in the repository, whose page lies in `folder`."""
    return posixpath.normpath(posixpath.join(folder, link))


@cache
def _outside(page: str) -> tuple[str, ...]:
    """What a page links to that is neither in docs/ nor a front page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = (_target(link, posixpath.dirname(page)) for _, link, _, _ in _LINK.findall(text))
    return tuple(each for each in targets if (ROOT / each).exists() and not each.startswith("docs/") and each not in FRONT)


def _page_of(target: str) -> str:
    """The name here of a path of the repository."""
    if target in FRONT:
        return FRONT[target]
    return target.removeprefix("docs/") if target.startswith("docs/") else f"source/{target}.md"


def _moved(markdown: str, folder: str, page: str) -> str:
    """A text of a page in `folder` of the repository, with its links as they lead from `page` here."""

    def moved(found: re.Match[str]) -> str:
        before, link, anchor, after = found.groups()
        target = _target(link, folder)
        if not (ROOT / target).exists():
            return found.group()
        return f"{before}{posixpath.relpath(_page_of(target), posixpath.dirname(page) or '.')}{anchor or ''}{after}"

    return _LINK.sub(moved, markdown)


def _source(target: str) -> str:
    """A page that shows a file, or the files of a folder."""
    path = ROOT / target
    shown = [path] if path.is_file() else sorted(each for each in path.rglob("*.*") if each.suffix in {*_LANGUAGES, ".md"})
    parts = [f"# {target}"]
    for each in shown:
        name, text = each.relative_to(ROOT).as_posix(), each.read_text(encoding="utf-8")
        if each.suffix == ".md":
            parts.append(_moved(text.replace("\n# ", "\n## ").removeprefix("# "), posixpath.dirname(name), _page_of(target)))
            continue
        heading = "" if each == path else f"## {name}\n\n"
        parts.append(f"{heading}````{_LANGUAGES.get(each.suffix, 'text')}\n{text}\n````")
    return "\n\n".join(parts) + "\n"


def _api() -> str:
    """Every name of `dir(saddlebag)`, by what it is for."""
    left = [name for name in dir(saddlebag) if not name.startswith("__")]
    parts = ["# The API", "All of `import saddlebag as sb`; every example runs."]
    for heading, begins in _API.items():
        names = [name for name in left if name.startswith(begins)]
        left = [name for name in left if name not in names]
        parts += [f"## {heading}", *map(_entry, names)]
    return "\n\n".join([*parts, "## Errors", *map(_entry, left)]) + "\n"


def _entry(name: str) -> str:
    found = getattr(saddlebag, name)
    return f"::: {found.__module__}.{found.__qualname__}"
