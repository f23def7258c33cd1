"""Reading text: lines as they are, folders by their names, and clear refusals of everything else."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data import text as module
from saddlebag.launch.data.text import read_text

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = Path(__file__).parents[4] / "shared" / "data" / "wikitext2"
PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("suffix", PACKERS)
def test_one_file_holds_out_its_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"plays.txt{suffix}"
    path.write_bytes(PACKERS[suffix]("\N{BOM}\r\n".encode() + b"".join(b" line %d \r\n\n" % number for number in range(40))))
    found = read_text(str(path))
    assert found.name == "plays"
    assert found.train == tuple(f"line {number}" for number in range(38))
    assert found.valid == ("line 38", "line 39")


@pytest.mark.parametrize("names", [("train.txt", "valid.txt"), ("wiki.train.tokens", "wiki.test.tokens"), ("a-TRAIN", "dev")])
def test_a_folder_with_two_files(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).write_text(f"of {name}\n")
    found = read_text(str(tmp_path))
    assert (found.train, found.valid) == ((f"of {names[0]}",), (f"of {names[1]}",))


def test_valid_is_preferred_to_test(tmp_path: Path) -> None:
    for name in ("test", "train", "valid"):
        (tmp_path / f"{name}.txt").write_text(name)
    assert read_text(str(tmp_path)).valid == ("valid",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "must hold a line of text to train on and one to judge by, got 0 and 0"),
        ("a.txt", b"one line", "got 0 and 1"),
        ("a.txt", b"fine\nfine\nb\xffd", "line 3: byte 0xff is no UTF-8; name its encoding"),
        ("a.txt", b"fine\nz\0\n", "line 2: holds a zero byte; is this text"),
        ("a.txt", b"PK\x03\x04rest", "is a zip archive"),
        ("a.xz", lzma.compress(b"line\n" * 99)[:-9], "cannot be read: Compressed file ended"),
        ("a.gz", b"\x1f\x8b", "cannot be read"),
        ("a.gz", gzip.compress(b"line\n" * 99)[:-9] + b"123456789", "cannot be read"),
        ("a.bz2", b"BZh91AY&SYnonsense", "cannot be read"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as refused:
        read_text(str(path))
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_small_file_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 1000)
    path = tmp_path / "bomb.xz"
    path.write_bytes(lzma.compress(b"a" * 10**6))
    with pytest.raises(DataError, match="holds more than 1000 bytes unpacked"):
        read_text(str(path))


def test_folders_that_do_not_say_which_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold a file with 'train' in its name, got none"):
        read_text(str(tmp_path))
    for name in ("train.txt", "train.txt.xz"):
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=r"must hold one file with 'train' in its name, got train\.txt, train\.txt\.xz"):
        read_text(str(tmp_path))
    with pytest.raises(ConfigError, match=r"data\.source must be the path of a text file or of a folder"):
        read_text("digits")


@pytest.mark.skipif(not SHARED.is_dir(), reason="WikiText-2 is not here")
def test_wikitext() -> None:
    found: Any = read_text(str(SHARED))
    assert (len(found.train), len(found.valid)) == (23767, 2461)
    assert found.train[0] == "= Valkyria Chronicles III ="
