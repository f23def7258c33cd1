"""docs/comparison.md: the comparisons of all methods, from their stored results.

    python benchmarks/comparison.py                    # writes the page and its plots from docs/comparison/*.json
    python benchmarks/comparison.py FOLDER [FOLDER]    # stores the results of `saddlebag compare --out FOLDER` first
    python benchmarks/comparison.py --rivals FOLDER    # stores the results of `rivals.py --out FOLDER` first

What makes the results is written on the page.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from saddlebag.launch.compare.plot import plot_comparison
from saddlebag.launch.compare.summary import read_comparison
from saddlebag.launch.compare.table import markdown, ranked, setting
from saddlebag.launch.results.house import PALETTE
from saddlebag.launch.results.units import format_bytes

DOCS = Path(__file__).parents[1] / "docs"
STORED = DOCS / "comparison"
RIVALS = "rivals"  # the name of the file with the results of rivals.py
OURS = "innovations"  # what its labels begin with that are no rivals
POINTS = 60  # of each curve in the repository
COMMANDS = {
    "bilinear": "saddlebag compare compare_bilinear --jobs 2 --out runs/compare_bilinear",
    "a9a": "saddlebag compare compare_a9a --jobs 2 --data PATH/a9a.xz --out runs/compare_a9a",
}
NOTES = {
    "a9a": "Measured before `innovations` left the regulariser out of what it sends: its bytes here are more than it takes now."
}

HEAD = """# Comparison of the methods by what they send

Every method has the same grid of steps (multiples of 1/L) and, where it synchronises at random, of probabilities; what needs
the fewest bytes in both directions on the first seed is run on all seeds. Bytes are lengths of encoded messages, start-up
included, of one worker; evaluations are those of one worker's operator; time is modelled, communication only: two latencies a
round, and the bytes on the worker's own link. This page is written by `make comparison` from `docs/comparison/*.json`.
"""


RIVALS_HEAD = """## `innovations` and its rivals, each at its best

Bytes of each worker in both directions until the relative error is 1e-6 (of the matrix game: until the duality gap is 3e-2 of
the first). "Automatic" has nothing to tune: steps and grids set themselves. "Best fixed grids" is the best of the pairs 1/0.5,
0.5/0.5 and 0.5/0.25 at automatic steps. Every rival has up to three quantisers times fourteen steps, from 6/L down to 0.05/L,
and at *each* target its best cell counts. "OGDA, deltas" are `innovations` with quantisers of others: 16 bits, 8 bits, 7
levels. "Common part" are rivals that are told what all workers have in common, as `innovations` is; the others send it, as in
their papers. On mushrooms the fixed grids send it, too. One seed. A rival that is not in the table of a problem was not run on
it. Made by

    python benchmarks/rivals.py --out runs/rivals --data-dir PATH && python benchmarks/comparison.py --rivals runs/rivals
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


def store_rivals(folder: Path) -> None:
    """Keep the cells that rivals.py found best, by problem and label, beside those that were kept before."""
    stored = STORED / f"{RIVALS}.json"
    values = json.loads(stored.read_text()) if stored.exists() else {}
    for path in sorted(folder.glob("*.json")):
        values.setdefault(path.stem.replace("_", " "), {}).update(json.loads(path.read_text()))
    STORED.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(values, indent=1) + "\n")


def sent(cells: list[dict[str, Any] | None], place: int) -> float:
    """Bytes in both directions; infinite where the target was not reached."""
    cell = cells[place]
    return float("inf") if cell is None else float(cell["up"] + cell["down"])


def plot_rivals(values: dict[str, dict[str, list[dict[str, Any] | None]]], out: Path) -> None:
    """A panel for each problem: bytes at the second target, on a logarithmic axis, the fewest on top."""
    with mpl.rc_context({"font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12.5, 3.4 * -(-len(values) // 2)), layout="constrained")
        axes = figure.subplots(-(-len(values) // 2), 2, squeeze=False)
        for ax in axes.flat[len(values) :]:
            ax.set_visible(False)
        for ax, (problem, cells) in zip(axes.flat, values.items(), strict=False):
            reached = {label: sent(found, 1) / 1e3 for label, found in cells.items() if found[1]}
            labels = sorted(reached, key=lambda label: -reached[label])
            for row, label in enumerate(labels):  # points: the length of a bar says nothing on a logarithmic axis
                colour = PALETTE[0] if label.startswith(OURS) else "0.45"
                ax.plot(reached[label], row, "o" if label.startswith(OURS) else "s", color=colour)
                ax.annotate(
                    format_bytes(reached[label] * 1e3), (reached[label], row), (7, 0), textcoords="offset points", va="center"
                )
            ax.set_yticks(range(len(labels)), labels)
            ax.grid(True, axis="y", color="0.92")
            ax.set_axisbelow(True)
            least, most = min(reached.values()), max(reached.values())
            if most < 10 * least:
                ax.set_xlim(0, 1.3 * most)
            else:
                ax.set_xscale("log")
                ax.set_xlim(0.7 * least, 2.5 * most)
                ax.xaxis.set_minor_formatter(NullFormatter())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,g}"))
            ax.set_title(problem)
            ax.set_xlabel("kB of each worker, both directions")
        figure.savefig(out, dpi=110)


def rivals_section(values: dict[str, dict[str, list[dict[str, Any] | None]]]) -> str:
    """All problems at a glance, at the second of three targets, and each problem's table."""
    lines = [
        RIVALS_HEAD,
        "| problem | automatic | best fixed grids | best rival, of how many run | its bytes | ratio |",
        "|---|---:|---:|---|---:|---:|",
    ]
    for problem, cells in values.items():
        rivals = {label: sent(found, 1) for label, found in cells.items() if not label.startswith(OURS)}
        best = min(rivals, key=lambda label: rivals[label])
        ours, fixed = (sent(cells[f"{OURS}, {kind}"], 1) for kind in ("automatic", "best fixed grids"))
        row = (
            problem,
            format_bytes(ours),
            format_bytes(fixed),
            f"{best}, of {len(rivals)}",
            format_bytes(rivals[best]),
            f"{ours / rivals[best]:.2f}",
        )
        lines.append(f"| {' | '.join(row)} |")
    for problem, cells in values.items():
        lines += [
            "",
            f"### {problem}",
            "",
            "| method | 1e-3 | 1e-6 | 1e-9 | quantiser, step x L, iterations at the second |",
            "|---|---:|---:|---:|---|",
        ]
        if problem == "matrix game":
            lines[-2] = "| method | gap 1e-1 | 3e-2 | 1e-2 | quantiser, step x L, iterations at the second |"
        for label, found in sorted(cells.items(), key=lambda item: (sent(item[1], 1), sent(item[1], 0))):
            bytes_3 = [format_bytes(sent(found, place)) if found[place] else "-" for place in range(3)]
            cell = found[1]
            how = f"{cell['variant']}, {cell['step']}, {cell['iterations']:,}" if cell else "-"
            lines.append(f"| {label} | {' | '.join(bytes_3)} | {how} |")
    plot_rivals(values, STORED / f"{RIVALS}.png")
    lines += ["", f"![Bytes of innovations and its rivals]({STORED.name}/{RIVALS}.png)"]
    return "\n".join(lines)


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
        lines += ["", *([NOTES[name], ""] if name in NOTES else []), "Made by", "", f"    {COMMANDS[name]}"]
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
    parser.add_argument("--rivals", type=Path, help="the folder of a run of rivals.py")
    args = parser.parse_args()
    for folder in args.folders:
        store(folder)
    if args.rivals is not None:
        store_rivals(args.rivals)
    found = {path.stem: path for path in STORED.glob("*.json")}
    stored = [found[name] for name in sorted(found, key=lambda name: (name != "bilinear", name)) if name != RIVALS]
    if not found:
        raise SystemExit(f"there is nothing in {STORED}; give the folder of a comparison")
    sections = [rivals_section(json.loads(found[RIVALS].read_text()))] if RIVALS in found else []
    sections += [section(path.stem, json.loads(path.read_text())) for path in stored]
    (DOCS / "comparison.md").write_text("\n\n".join([HEAD.strip(), *sections]) + "\n")


if __name__ == "__main__":
    main()
