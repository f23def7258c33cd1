"""Checkpoints of a service: a small file for what changes, and a file for each full page of waiting tickets, written once.

`groupwise-CALLS.safetensors` holds the learners, the mixer, the accounts, the page that still grows and the marks of rows that
are done; `tickets-PAGE.safetensors` the rows of one full page. A checkpoint names its pages' digests, and every file
holds its own, so a damaged, renamed or mixed-up file is refused by name. Pages that no kept checkpoint names are removed.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from saddlebag.errors import StateError
from saddlebag.proto.checkpoint import CheckpointStore, bytes_to_arrays, file_of, write_atomically
from saddlebag.proto.ordinary import ordinary
from saddlebag.proto.pieces import at_once, pieces
from saddlebag.server.groupwise.pages import names_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from saddlebag.proto.pieces import Pause

FORMAT = 2
_PAGE = re.compile(r"tickets-(\d{12})\.safetensors")


class ServiceStore:
    """The checkpoints of one folder.

    Args:
        directory: the folder.
        mode: permissions of new files.
    """

    def __init__(self, directory: Path, *, mode: int = 0o600) -> None:
        self._directory, self._mode = directory, mode
        self._store = CheckpointStore(directory, "groupwise", mode=mode)
        self._digests: dict[str, str] = {}  # of pages on disk
        self._files: set[str] | None = None  # pages with a file, once looked up
        self._named: dict[int, set[str]] = {}  # pages that checkpoints name, once known

    def path(self, page: str) -> Path:
        return self._directory / f"tickets-{int(page):012d}.safetensors"

    def numbers(self) -> list[int]:
        """The calls after which there is a checkpoint, ascending."""
        return self._store.rounds()

    def save(
        self, number: int, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], pause: Pause = at_once
    ) -> None:
        """Write the state after `number` calls: what `GroupwiseCore.capture` gave. `pause` is called after every small step.

        Raises:
            StateError: the disk does not take it; the older checkpoints are left as they are.
        """
        sealed = [str(serial) for serial in facts["tickets"]["sealed"]]
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            if self._files is None:
                self._files = self._look_up()
            for page in sealed:
                if page not in self._digests:
                    self._write_page(page, {name: arrays[name] for name in names_of(int(page))}, pause)
        except OSError as error:
            raise StateError(f"cannot write tickets in {self._directory}: {error.strerror or error}") from error
        apart = {name for page in sealed for name in names_of(int(page))}
        rest = {name: array for name, array in arrays.items() if name not in apart}
        pages = {page: self._digests[page] for page in sealed}
        pause()
        self._store.pause = pause
        self._store.save(number, rest, {**facts, "format": FORMAT, "number": number, "pages": pages})
        self._named[number] = set(pages)
        pause()
        self._forget_pages(pause)

    def load(self, number: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The arrays and facts of a checkpoint.

        Raises:
            StateError: it is of another version, or a file is missing, damaged or in another's place.
        """
        arrays, facts = self._store.load(number)
        path = self._store.path(number)
        if facts.get("format") != FORMAT:
            raise StateError(
                f"checkpoint {path} is of version {facts.get('format', 1)}, this release reads {FORMAT}; serve it with the "
                "release that wrote it, or give --out another folder"
            )
        for page, told in facts["pages"].items():
            arrays |= self._read_page(page, told)
        self._digests = dict(facts["pages"])
        return arrays, facts

    def _write_page(self, page: str, arrays: Mapping[str, npt.NDArray[Any]], pause: Pause) -> None:
        data = file_of(arrays, {"page": page}, pause)
        write_atomically(self.path(page), data, mode=self._mode, pause=pause)
        digest = hashlib.blake2b(digest_size=16)
        for piece in pieces(data, pause):
            digest.update(piece)
        assert self._files is not None
        self._files.add(page)
        self._digests[page] = digest.hexdigest()

    def _read_page(self, page: str, told: str) -> dict[str, npt.NDArray[Any]]:
        path = self.path(page)
        try:
            data = ordinary(path).read_bytes()
        except OSError as error:
            raise StateError(f"cannot read the waiting tickets {path}: {error.strerror or error}") from error
        if hashlib.blake2b(data, digest_size=16).hexdigest() != told:
            raise StateError(f"the waiting tickets {path} are damaged, or another checkpoint's: their digest differs")
        return bytes_to_arrays(data, str(path))

    def _pages_of(self, number: int) -> set[str]:
        known = self._named.get(number)
        return set(self._store.facts(number).get("pages", {})) if known is None else known

    def _look_up(self) -> set[str]:
        """The pages with a file; what a killed process left half written is removed."""
        for torn in self._directory.glob(".tickets-*.tmp"):
            torn.unlink(missing_ok=True)
        matches = (_PAGE.fullmatch(path.name) for path in self._directory.iterdir())
        return {str(int(match[1])) for match in matches if match}

    def _forget_pages(self, pause: Pause) -> None:
        """Remove pages that no kept checkpoint names; all stay where a checkpoint cannot be read."""
        kept = self.numbers()
        try:
            self._named = {number: self._pages_of(number) for number in kept}
        except StateError:
            return
        named = set().union(*self._named.values())
        assert self._files is not None
        for page in self._files - named:
            self.path(page).unlink(missing_ok=True)
            pause()
        self._files &= named
        self._digests = {page: digest for page, digest in self._digests.items() if page in named}
