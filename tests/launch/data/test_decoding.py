"""The one decoder: what is packed, encodings, ends of lines, bounds."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.errors import DataError
from saddlebag.launch.data import decoding
from saddlebag.launch.data.decoding import lines, opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = "one\nzwei Käse\n\nthree\n"
PACKERS = [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress]


def write(folder: Path, content: bytes, name: str = "a.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_content_decides_what_is_packed(tmp_path: Path, pack: Callable[[bytes], bytes], end: str) -> None:
    path = write(tmp_path, pack(TEXT.replace("\n", end).encode()), "a.gz")
    assert list(lines(path)) == ["one", "zwei Käse", "", "three"]


@pytest.mark.parametrize("pack", PACKERS[1:])
def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path, pack(b"\n" * 1_000_000))
    with pytest.raises(DataError, match="holds more than 999999 bytes unpacked"):
        list(lines(path, most=999_999))
    with opened(path, 1_000_000) as file:
        assert len(file.read()) == 1_000_000


@pytest.mark.parametrize("pack", PACKERS[1:])
def test_a_damaged_file_is_named(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    whole = pack(TEXT.encode() * 50)
    flipped = [whole[:12] + b"\xff\xff\xff" + whole[15:]] if pack is not zstandard.compress else []  # it keeps no checksum
    for content in (whole[:-4], *flipped):
        path = write(tmp_path, content)
        with pytest.raises(DataError, match=r"a\.txt: cannot be read: "):
            list(lines(path))


def test_a_line_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_LINE", 10)
    assert list(lines(write(tmp_path, b"123456789\n1234567890"))) == ["123456789", "1234567890"]
    with pytest.raises(DataError, match="line 2: has more than 10 characters"):
        list(lines(write(tmp_path, b"1\n12345678901\n")))


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"fine\n" * 5000 + b"caf\xe9\n", "", 'line 5001: byte 0xe9 is no UTF-8; name its encoding: data.encoding = "latin-1"'),
        (b"a\x81\n", "cp1252", "line 1: byte 0x81 is no cp1252; it has another one"),
        ("a".encode("utf-16"), "", 'begins with the mark of UTF-16; give data.encoding = "utf-16"'),
        ("a".encode("utf-16-le"), "", 'line 1: holds a zero byte; .* data.encoding = "utf-16-le"'),
        (b"\xef\xbb\xbfa", "latin-1", "begins with the mark of UTF-8, and data.encoding is 'latin-1'; leave it out"),
        (b"PK\x03\x04....", "", "is a zip archive"),
        (b"SQLite format 3\0", "", "is an SQLite database"),
        (b"PAR1\x15\x04\x15", "", 'is a Parquet file; name it .parquet, or give data.format = "parquet"'),
    ],
)
def test_what_is_no_text_of_the_encoding_is_refused(tmp_path: Path, content: bytes, encoding: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(lines(write(tmp_path, content), encoding))


def test_words_that_begin_like_other_formats_are_text(tmp_path: Path) -> None:
    for word in ("PAR1,PAR2", "SQLite,x", "PKW,LKW", "BZh,x", "%PDF,x"):
        assert list(lines(write(tmp_path, word.encode()))) == [word]


@settings(deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff")),
    st.sampled_from(["", "utf-8", "utf-16", "gb18030"]),
    st.sampled_from(PACKERS),
)
def test_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path_factory.getbasetemp(), pack(text.encode(encoding or "utf-8")))
    if text:
        assert "\n".join(lines(path, encoding)) == text.removesuffix("\n")
