"""The one way from a file to bytes and to text: packed or not by its content, in a named encoding, within bounds.

    opened(path)            unpacked bytes, bounded
    lines(path, encoding)   its lines as text

A file's suffix is a hint for people: what it holds decides. A small file that unpacks to terabytes, a line without an end,
bytes of another encoding and zero bytes are refused with file, line and what to do.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import re
import zlib
from typing import IO, TYPE_CHECKING, Any

import zstandard

from saddlebag.errors import DataError, reason_of
from saddlebag.proto.ordinary import ordinary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["MAX_BYTES", "MAX_LINE", "is_parquet", "lines", "opened", "plain_name"]

MAX_BYTES = 1 << 33
"""Of an unpacked file that is read line by line; the largest public tables of this kind have about as many."""
MAX_LINE = 1 << 26
"""Characters of a line; a row of a million numbers has a third of it."""

_MARK = b"\xef\xbb\xbf"
_PACKED_BYTES = 1024  # at once: zstandard makes at most some 32 MiB of them
_WINDOW = 1 << 27  # bytes that zstandard may keep; its own command allows as many
_FOREIGN = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet); unpack it, or save it as CSV",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet; save it as CSV",
    b"\x89HDF\r\n": "an HDF5 file; save it as CSV or Parquet",
    b"\x93NUMPY": "a numpy file; hand its array to saddlebag.make_problem",
    b"SQLite format 3\0": "an SQLite database; export a table as CSV",
    b"%PDF-": "a PDF",
    b"<!DOCTYPE": "a page of HTML, perhaps of an error; fetch the file itself",
    b"<html": "a page of HTML, perhaps of an error; fetch the file itself",
    b"version https://": "a pointer of Git LFS; fetch the file itself (git lfs pull)",
    b"ARROW1\0\0": "an Arrow or Feather file; save it as Parquet",
}
_SUFFIXES = (".xz", ".gz", ".bz2", ".zst")
_TROUBLE = (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError)


def plain_name(path: Path) -> str:
    """A file's name without the suffix of a packer."""
    return path.name[: -len(path.suffix)] if path.suffix.lower() in _SUFFIXES else path.name


class _Frames:
    """The bytes in a file of zstandard; one that is cut off is noticed, as the package's own reader does not."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._rest = file, b""
        self._frame: Any = None
        self._out = io.BytesIO()

    def read(self, size: int) -> bytes:
        while not (data := self._out.read(size)):
            packed = self._rest or self._file.read(_PACKED_BYTES)
            if not packed:
                if self._frame is not None:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
                return b""
            self._frame = self._frame or zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
            self._out = io.BytesIO(self._frame.decompress(packed))
            self._rest = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        return data


_UNPACKERS: tuple[tuple[re.Pattern[bytes], Callable[[IO[bytes]], Any]], ...] = (
    (re.compile(rb"\x1f\x8b"), lambda file: gzip.GzipFile(fileobj=file)),
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), bz2.BZ2File),
    (re.compile(rb"\xfd7zXZ\x00"), lzma.LZMAFile),
    (re.compile(rb"(?:\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)"), _Frames),
)


class _Bounded(io.RawIOBase):
    """Another stream's bytes, up to a limit."""

    def __init__(self, source: Any, path: Path, most: int) -> None:
        self._source, self._path, self._left, self._most = source, path, most, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(min(len(buffer), self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._path}: holds more than {self._most} bytes unpacked, the most that is read")
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def opened(path: Path, most: int = MAX_BYTES) -> Iterator[io.BufferedReader]:
    """A file's bytes, unpacked where its first bytes are those of gzip, bzip2, xz or zstandard.

    Raises:
        DataError: it is missing, damaged, or has more than `most` bytes.
    """
    try:
        with ordinary(path).open("rb") as file:
            first = file.peek(16)[:16]
            unpack = next((unpack for magic, unpack in _UNPACKERS if magic.match(first)), None)
            yield io.BufferedReader(_Bounded(unpack(file) if unpack else file, path, most))
    except _TROUBLE as error:
        raise DataError(f"{path}: cannot be read: {reason_of(error)}") from error


def is_parquet(first: bytes) -> bool:
    """Whether a file begins so with Parquet's mark, not with a word of these letters."""
    return first.startswith(b"PAR1") and first[4:5] < b"\x20" and first[4:5] not in (b"\t", b"\r", b"\n", b"")


def lines(path: Path, encoding: str = "", *, most: int = MAX_BYTES, ends: bool = False) -> Iterator[str]:
    r"""The lines of a text file, which end with \n, \r\n or \r.

    Args:
        path: of the file, packed or not.
        encoding: one of `saddlebag.launch.recipe.table_options.ENCODINGS`; empty for UTF-8, with or without its mark.
        most: bytes, unpacked.
        ends: keep the ends of lines as they are.

    Raises:
        DataError: it is missing, damaged, too large, or no text of this encoding; with the line.
    """
    number = 0
    with opened(path, most) as file:
        _require_text(path, file.peek(16)[:16], encoding)
        name = "utf-8-sig" if encoding in ("", "utf-8") else encoding
        text = io.TextIOWrapper(file, encoding=name, newline="" if ends else None)
        try:
            while line := text.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise DataError(f"{path}, line {number}: has more than {MAX_LINE} characters, the most that is read")
                if "\0" in line:
                    hint = 'is this text? UTF-16 without its mark needs data.encoding = "utf-16-le"'
                    raise DataError(f"{path}, line {number}: holds a zero byte; {hint}")
                yield line if ends else line.removesuffix("\n")
        except UnicodeDecodeError as error:
            number += 1 + error.object.count(b"\n", 0, error.start)
            said = encoding or "UTF-8"
            other = 'name its encoding: data.encoding = "latin-1", "cp1252", ...' if not encoding else "it has another one"
            raise DataError(f"{path}, line {number}: byte 0x{error.object[error.start]:02x} is no {said}; {other}") from None
        except UnicodeError as error:  # UTF-16 without its mark
            raise DataError(f"{path}: is no {encoding}: {error}") from None


def _require_text(path: Path, first: bytes, encoding: str) -> None:
    """Refuse what its first bytes show to be something else."""
    for magic, what in _FOREIGN.items():
        if first.startswith(magic):
            raise DataError(f"{path}: is {what}")
    if is_parquet(first):
        raise DataError(f'{path}: is a Parquet file; name it .parquet, or give data.format = "parquet"')
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) and not encoding.startswith("utf-16"):
        raise DataError(f'{path}, line 1: begins with the mark of UTF-16; give data.encoding = "utf-16"')
    if first.startswith(_MARK) and encoding not in ("", "utf-8"):
        raise DataError(f"{path}, line 1: begins with the mark of UTF-8, and data.encoding is {encoding!r}; leave it out")
