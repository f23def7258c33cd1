"""Runs on one page: what is read of a folder, what stands on the page, and what a browser makes of it."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.errors import DataError
from saddlebag.launch import cli
from saddlebag.launch.pages.lines import Drawn, draw_lines, thinned
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.launch.results.table import Board
from saddlebag.launch.running import run
from saddlebag.launch.view.gather import gather
from saddlebag.launch.view.page import page_of
from saddlebag.launch.view.writing import write_view

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "Two <b>ways</b> & </script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two methods that has ended."""
    out = tmp_path_factory.mktemp("view") / "run"
    table: dict[str, Any] = {
        "title": TITLE,
        "workers": 2,
        "driver": "simulate",
        "problem": {"name": "bilinear", "n": 5, "regularisation": 0.5},
        "method": {"name": "innovations", "step_size": "auto", "up": {"name": "grid"}, "down": {"name": "grid"}},
        "baseline": [{"name": "ogda", "step_size": "auto", "label": "ogda"}],
        "stop": {"max_rounds": 60, "merit": 1e-3, "every": 5},
    }
    recipe = recipe_from_dict(table)
    board = Board([job.label for job in recipe.jobs()], stop=recipe.stop, workers=2, title="", quiet=True)
    run(recipe, out, board)
    (out / "innovations" / "pictures").mkdir()
    for name in ("samples", "samples-00000012"):
        (out / "innovations" / "pictures" / f"{name}.png").write_bytes(b"\x89PNG of " + name.encode())
    (out / "innovations" / "texts").mkdir()
    (out / "innovations" / "texts" / "guesses.md").write_text("| text | guess |\n|---|---|\n| a \\| b \\<i\\> | \\*x\\* |\n")
    return out


@pytest.fixture
def going(folder: Path, tmp_path: Path) -> Path:
    """The same run while its second method is under way."""
    out = tmp_path / "going"
    shutil.copytree(folder, out)
    (out / "result.json").unlink()
    second = out / "ogda"
    (second / "result.json").unlink()
    lines = (second / "metrics.jsonl").read_text().splitlines(keepends=True)
    (second / "metrics.jsonl").write_text("".join(lines[:2]) + lines[2][:20])  # the last one is being written
    (second / "progress.json").write_text('{"round": 41, "iteration": 41}')
    (second / "waiting.txt").write_text("round 41 waits 3 s for worker 1")
    return out


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    return reader


def test_what_a_run_holds(folder: Path) -> None:
    first, second = gather([folder])
    assert (first.label, second.label) == ("innovations", "ogda")
    for curve in (first, second):
        result = json.loads((curve.folder / "result.json").read_text())
        assert curve.round == result["rounds"] == curve.lines[-1]["round"]
        assert curve.lines[-1]["up_bytes"] == result["up_bytes"]
        assert (curve.title, curve.workers, curve.target) == (TITLE, 2, 1e-3)
        assert curve.merits[0] == "relative_error"
    assert first.settings["method.up.name"] == "grid"
    assert "method.up.name" not in second.settings
    assert first.settings["problem.n"] == second.settings["problem.n"] == "5"
    assert first.pictures == {"samples": b"\x89PNG of samples"}, "the newest, not those of evaluations before"
    assert first.texts == {"guesses": [["text", "guess"], ["a | b <i>", "*x*"]]}


def test_a_run_under_way_a_method_s_folder_and_a_result_s_file(folder: Path, going: Path) -> None:
    done, under_way = gather([going])
    assert done.result
    assert not under_way.result
    assert (len(under_way.lines), under_way.round, under_way.waiting) == (2, 41, "round 41 waits 3 s for worker 1")
    assert "running; round 41 waits 3 s for worker 1" in read(page_of([done, under_way])).text
    (alone,) = gather([folder / "innovations"])
    assert (alone.label, alone.settings.get("problem.n"), alone.workers) == ("innovations", None, 2)
    assert len(gather([folder / "result.json"])) == 2


def test_bytes_of_a_server_that_has_not_ended_are_said_to_be_those_of_all(folder: Path, tmp_path: Path) -> None:
    """Its folder holds no recipe, and its result will say how many workers there were."""
    served = tmp_path / "served"
    shutil.copytree(folder / "innovations", served)
    assert "How many workers" not in page_of(gather([served]))
    (served / "result.json").unlink()
    (curve,) = gather([served])
    assert (curve.label, curve.workers, curve.share) == ("served", 0, 1)
    assert "How many workers there are is not known yet of served: its bytes are those of all." in page_of([curve])


def test_labels_of_several_runs_differ(folder: Path, going: Path) -> None:
    labels = [curve.label for curve in gather([folder, going, going])]
    assert labels[:3] == ["run/innovations", "run/ogda", "going/innovations"]
    assert len({*labels}) == 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "there is no such folder"),
        ("other.txt", "holds no run: no recipe.toml"),
        ("groups.csv", "holds a groupwise study; 'saddlebag groupwise report"),
        ("comparison.json", "holds a comparison"),
    ],
)
def test_what_holds_no_run_is_named(tmp_path: Path, name: str | None, message: str) -> None:
    if name:
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / name).touch()
    with pytest.raises(DataError, match=message):
        gather([tmp_path / "x"])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("recipe.toml", "[[["),
        ("recipe.toml", '[method]\nlabel = "../../up"'),
        ("metrics.jsonl", '{"round": "x", "merits": []}\n{"round": 1}\n[]\n{"round": 1e999}\n'),
        ("metrics.jsonl", '{"round": 3, "up_bytes": 1, "down_bytes": 1, "elapsed_s": 1, "merits": {"m": NaN}}\n'),
        ("result.json", "[1, 2"),
        ("result.json", "[1, 2]"),
        ("result.json", '{"rounds": "x", "workers": [], "start_s": "soon", "resolved": 3, "merits": 4, "target": {}}'),
        ("result.json", '{"reason": {"a": 1}, "label": 7}'),
        ("progress.json", '{"round": "many"}'),
    ],
)
def test_odd_files_leave_things_out_and_no_traceback(folder: Path, tmp_path: Path, file: str, text: str) -> None:
    out = tmp_path / "copy"
    shutil.copytree(folder, out)
    place = out if file == "recipe.toml" else out / "innovations"
    (place / file).write_text(text)
    if file == "recipe.toml":
        with pytest.raises(DataError, match="holds no run"):
            gather([out])
        return
    assert page_of(gather([out])).endswith("</html>\n")


def test_the_page_is_alone_in_its_file_and_text_stays_text(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["view", str(folder), "-o", str(tmp_path / "page.html")])
    assert ended.value.code == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = read(text)
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert "i" not in page.tags
    assert TITLE in page.text
    assert "img-src data:" in text
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    merits, across = len(gather([folder])[0].merits), 5
    assert page.tags.count("svg") == merits * across
    assert "a | b <i>" in page.text


def test_settings_that_differ_stand_apart_from_the_others(folder: Path) -> None:
    text = page_of(gather([folder]))
    apart, common = text.split("<details>")
    assert '>method.up.name</th><td title="grid">grid</td><td title="">-</td>' in apart
    assert ">problem.n</th>" not in apart
    assert ">problem.n</th>" in common


def test_bytes_of_the_table_are_those_of_a_worker(folder: Path) -> None:
    text = page_of(gather([folder]))
    for label in ("innovations",):
        result = json.loads((folder / label / "result.json").read_text())
        assert f'data-head="bytes up" data-value="{result["up_bytes"] / 2!r}"' in text
        assert f'data-head="rounds" data-value="{float(result["rounds"])!r}"' in text


def test_watching_ends_with_the_runs(going: Path, folder: Path, tmp_path: Path) -> None:
    pages: list[str] = []

    def later(seconds: float) -> None:
        assert seconds == 0.5
        pages.append((tmp_path / "page.html").read_text())
        if len(pages) == 2:
            (going / "ogda" / "result.json").write_text(json.dumps({"reason": "merit", "rounds": 41, "workers": 2}))

    write_view([going], tmp_path / "page.html", every_s=0.5, wait=later)
    assert len(pages) == 2
    assert all('data-again="0.5"' in page and "live, " in page for page in pages)
    assert 'data-again=""' in (tmp_path / "page.html").read_text(), "a page that is complete does not load itself again"


def test_ctrl_c_leaves_a_complete_page(going: Path, tmp_path: Path) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_view([going], tmp_path / "page.html", every_s=0.5, wait=interrupted)
    assert 'data-again=""' in (tmp_path / "page.html").read_text()


def test_a_browser_shows_one_merit_and_hides_what_is_unticked(folder: Path, tmp_path: Path, browser: Any) -> None:
    text = page_of(gather([folder]))
    clicks = """
      merit.value = merit.options[1].value; merit.dispatchEvent(new Event("change", { bubbles: true }));
      boxes.find((box) => box.dataset.of === "1").click(); document.querySelectorAll("thead button")[3].click();"""
    script = text.rindex("  const again")
    (tmp_path / "page.html").write_text(text[:script] + clicks + text[script:])
    shown = browser(tmp_path / "page.html")
    merits = re.findall(r'<section class="([^"]*)" data-merit="([^"]*)"', shown)
    assert [("off" in look) for look, _ in merits] == [number != 1 for number in range(len(merits))]
    assert re.search(r'<g class="curve c1 off" data-curve="1">', shown)
    assert not re.search(r'<g class="curve c0 off"', shown)
    assert 'aria-sort="ascending"' in shown


def test_pictures_are_finite_for_odd_numbers() -> None:
    nan, inf = float("nan"), float("inf")
    for ys in ([0.0, 0.0], [-3.0, 5.0], [1e-300, 1e300], [nan, inf], [nan, 2.0], [0.0, 1.0, 1e-9], []):
        for xs in ([0.0, 0.0, 0.0], [1.0, 1e9, 2e9]):
            points = list(zip(xs, ys, strict=False))
            curves = [Drawn("a<b", number, points) for number in range(7)]
            ticks: dict[str, Any] = {"tick_x": str, "tick_y": str}
            for target in (None, 1e-6):
                picture = draw_lines(curves, title="t", across="x", target=target, **ticks)
                assert not re.search(r'(?:d|x|y|transform)="[^"]*(?:nan|inf)', picture)
                assert "a<b" not in picture


def test_names_of_seven_curves_that_end_together_lie_apart() -> None:
    curves = [Drawn(f"curve {number}", number, [(0.0, 1.0), (1.0, 0.5)]) for number in range(7)]
    picture = draw_lines(curves, title="t", across="x", tick_x=str, tick_y=str)
    heights = sorted(float(y) for y in re.findall(r'class="name" x="[^"]*" y="([^"]*)"', picture))
    assert len(heights) == 7
    assert all(below - above > 12 for above, below in itertools.pairwise(heights))
    assert max(heights) < 300


def test_thinning_keeps_the_ends() -> None:
    points = [(float(x), 1.0 / (x + 1)) for x in range(5000)]
    kept = thinned(points)
    assert len(kept) == 240
    assert (kept[0], kept[-1]) == (points[0], points[-1])
