"""docs/comparison.md: the comparisons of all methods, from their stored results.

    python benchmarks/comparison.py                    # writes the page and its plots from docs/comparison/*.json
    python benchmarks/comparison.py FOLDER [FOLDER]    # stores the results of `saddlebag compare --out FOLDER` first

What makes the results is written on the page.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from saddlebag.launch.compare.plot import plot_comparison
from saddlebag.launch.compare.summary import read_comparison
from saddlebag.launch.compare.table import markdown, ranked, setting
from saddlebag.launch.results.units import format_bytes

DOCS = Path(__file__).parents[1] / "docs"
STORED = DOCS / "comparison"
POINTS = 60  # of each curve in the repository
COMMANDS = {
    "bilinear": "saddlebag compare launch/recipes/compare_bilinear.toml --jobs 2 --out runs/compare_bilinear",
    "a9a": "saddlebag compare launch/recipes/compare_a9a.toml --jobs 2 --data PATH/a9a.xz --out runs/compare_a9a",
}

HEAD = """# Comparison of the methods by what they send

Every method has the same grid of steps (multiples of 1/L) and, where it synchronises at random, of probabilities; what needs
the fewest bytes in both directions on the first seed is run on all seeds. Bytes are lengths of encoded messages, start-up
included, of one worker; evaluations are those of one worker's operator; time is modelled, communication only: two latencies a
round, and the bytes on the worker's own link. This page is written by `make comparison` from `docs/comparison/*.json`.
"""


def store(folder: Path) -> None:
    """Keep the comparison of a folder, its curves thinned, under the last part of the folder's name."""
    values = read_comparison(folder)
    for entry in values["entries"]:
        entry["curves"] = [thinned(curve) for curve in entry["curves"]]
    name = folder.name.removeprefix("compare_")
    STORED.mkdir(parents=True, exist_ok=True)
    (STORED / f"{name}.json").write_text(json.dumps(values, separators=(",", ":")) + "\n")


def thinned(curve: dict[str, list[float]]) -> dict[str, list[float]]:
    length = len(next(iter(curve.values())))
    kept = sorted({round(number * (length - 1) / (POINTS - 1)) for number in range(POINTS)}) if length else []
    return {key: [float(f"{values[place]:.4g}") for place in kept] for key, values in curve.items()}


def section(name: str, values: dict[str, Any]) -> str:
    plot = STORED / f"{name}.png"
    plot_comparison(values, plot)
    lines = [
        f"## {values['title']}",
        "",
        verdict(values),
        "",
        f"![{values['title']}]({plot.relative_to(DOCS)})",
        "",
        markdown(values),
    ]
    if name in COMMANDS:
        lines += ["", "Made by", "", f"    {COMMANDS[name]}"]
    return "\n".join(lines)


def verdict(values: dict[str, Any]) -> str:
    """The winner against the reference, in a sentence."""
    best = ranked(values)[0]
    if best["median"] is None:
        return "No method reached the target."
    total = format_bytes(best["median"]["total"])
    text = f"**{best['label']}** ({setting(best['method'])}) needs {total} for each worker, both ways"
    others = {entry["label"]: entry for entry in values["entries"]}
    reference = others.get(values["reference"])
    if reference is None or reference["median"] is None or reference is best:
        return f"{text}."
    ratio = reference["median"]["total"] / best["median"]["total"]
    return f"{text}: {ratio:.1f} times less than {reference['label']} ({format_bytes(reference['median']['total'])})."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    for folder in parser.parse_args().folders:
        store(folder)
    stored = sorted(STORED.glob("*.json"), key=lambda path: (path.stem != "bilinear", path.stem))
    if not stored:
        raise SystemExit(f"there is nothing in {STORED}; give the folder of a comparison")
    sections = [section(path.stem, json.loads(path.read_text())) for path in stored]
    (DOCS / "comparison.md").write_text("\n\n".join([HEAD.strip(), *sections]) + "\n")


if __name__ == "__main__":
    main()
