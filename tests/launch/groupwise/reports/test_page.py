"""The page of a study: complete, alone in its file, text that stays text, and a browser that sorts it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.errors import DataError, StateError
from saddlebag.launch import cli
from saddlebag.launch.groupwise.reports.page import PAGE, write_page
from saddlebag.launch.pages.drawing import Series, draw_curves, draw_dots

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
title = "Study of <b>rows</b> & more"
shuffles = [1, 2]
data.source = "rows.csv"
features.numeric = ["a"]
features.intercept = true
label.column = "y"
intervals.targets = [0.8, 0.9]
calibration.bins = 4
[groups]
"</script><script>alert(1)</script>" = "a < 0.4"
"zebra \\"quoted\\" & co" = "a >= 0.4"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder."""
    here = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    rows = [f"{a:.4f},{int(rng.random() < a)}" for a in rng.random(80)]
    (here / "rows.csv").write_text("\n".join(["a,y", *rows]))
    (here / "rows.toml").write_text(RECIPE)
    with pytest.raises(SystemExit) as ended:
        cli.main(["groupwise", "run", str(here / "rows.toml"), "--out", str(here / "out"), "--processes", "1"])
    assert ended.value.code == 0
    return here / "out"


class _Reader(HTMLParser):
    """Counts elements, and gathers text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_is_alone_in_its_file_and_names_stay_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["groupwise", "report", str(folder), "--html"])
    assert ended.value.code == 0
    assert str(folder / PAGE) in capsys.readouterr().out
    text, page = (folder / PAGE).read_text(encoding="utf-8"), _Reader()
    page.feed(text)
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert page.tags.count("article") == 3
    assert page.tags.count("svg") == 3 * 2 + 2  # regret and calibration of each group; coverage of each target
    assert page.tags.count("b") == 0
    assert "Study of <b>rows</b> & more" in page.text
    assert "</script><script>alert(1)</script>" in page.text
    links = [value for name, value in page.attributes if name in ("src", "href", "action", "data")]
    assert all(value and value.startswith("#g") for value in links)
    assert not re.search(r"https?://|url\(|@import", text)
    assert "default-src 'none'" in text
    assert not re.search(r"\b(nan|inf)\b", text.split("<main>")[1].split("<script>")[0])


def test_a_browser_sorts_the_table_and_runs_no_other_script(folder: Path, tmp_path: Path) -> None:
    browser = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("needs chromium")
    clicks = "document.querySelectorAll('thead button')[2].click();" * 2  # rounds, then the other way
    text = write_page(folder, tmp_path / "page.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(text.replace("</script></body>", f"{clicks}</script></body>"))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{tmp_path / 'page.html'}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    body = shown.split("<tbody>")[1].split("</tbody>")[0]
    rounds = [float(value) for value in re.findall(r'data-head="rounds" data-value="([^"]*)"', body)]
    assert rounds == sorted(rounds, reverse=True)
    assert len(rounds) == 3
    assert 'aria-sort="descending"' in shown


def test_pictures_are_finite_for_odd_numbers() -> None:
    for values in ([0.0, 0.0], [-3.0, -3.0], [1e-9, 2e9]):
        point_P = np.array(values)
        line = Series("s", "ours", np.array([1.0, 2.0]), point_P, point_P, point_P)
        assert "nan" not in draw_curves([line], "t", across="x", up="y").lower()
    assert "nan" not in draw_dots([("a", 0.9, 0.9)], 0.9, "t", ("x", "y")).lower()


def test_a_folder_without_a_result_and_a_place_that_takes_no_file_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"result\.json: cannot be read"):
        write_page(tmp_path)
    with pytest.raises(StateError, match=r"cannot write .*page\.html"):
        write_page(folder, tmp_path / "no folder" / "page.html")
