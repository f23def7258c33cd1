"""Results of benchmarks beside earlier ones of the same machine.

    python benchmarks/bench_rounds.py --record results.jsonl      # one line: script, arguments, machine, commit, measurements
    ... another commit ...
    python benchmarks/bench_rounds.py --record results.jsonl
    python benchmarks/regress.py results.jsonl                    # compares the last two of each script, arguments and machine

Shown are the medians of every number, by contender; those that moved by more than --limit (a tenth) are marked, and the command
ends with 1 if one of them is worse: less of a rate (..._per_s), more of anything else that ends in a unit of time or memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

RATES = ("_per_s",)
COSTS = ("_ms", "_s", "_bytes", "_mb", "_ns")
Key = tuple[str, ...]


def last_two(lines: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The last two records of each script, arguments and machine, where there are two."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(json.dumps([line["script"], line["arguments"], line["machine"]]), []).append(line)
    return [(group[-2], group[-1]) for group in groups.values() if len(group) > 1]


def medians(record: dict[str, Any]) -> dict[Key, float]:
    """(what a measurement is of, name) -> the median over its repetitions."""
    found: dict[Key, list[float]] = {}
    for row in record["measurements"]:
        of = [f"{name}={value}" for name, value in row.items() if _says_which(name, value)]
        for name, value in row.items():
            if name.endswith(RATES + COSTS) and isinstance(value, int | float):
                found.setdefault((*of, name), []).append(float(value))
    return {key: statistics.median(values) for key, values in found.items()}


def _says_which(name: str, value: object) -> bool:
    """Whether a column tells measurements apart, instead of being one."""
    return name != "repetition" and not name.endswith(RATES + COSTS) and isinstance(value, str | int) and name != "digest"


def compared(before: dict[str, Any], after: dict[str, Any], limit: float) -> tuple[list[str], int]:
    """A line for each number of both records, and how many are worse by more than the limit."""
    old, new = medians(before), medians(after)
    lines, worse = [], 0
    for key in sorted(old.keys() & new.keys()):
        ratio = new[key] / old[key] if old[key] else 1.0
        cost = 1 / ratio if key[-1].endswith(RATES) and ratio else ratio
        mark = "worse" if cost > 1 + limit else "better" if cost < 1 / (1 + limit) else ""
        worse += mark == "worse"
        lines.append(f"{' '.join(key):70} {old[key]:12.5g} {new[key]:12.5g}  x {ratio:5.2f}  {mark}".rstrip())
    return lines, worse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--limit", type=float, default=0.1, help="a change that counts, as a part of the earlier number")
    args = parser.parse_args()
    worse = 0
    for before, after in last_two([json.loads(line) for line in args.file.read_text().splitlines()]):
        lines, count = compared(before, after, args.limit)
        print(f"\n{after['script']} {' '.join(after['arguments'])}: {before['commit']} -> {after['commit']}", *lines, sep="\n")
        worse += count
    sys.exit(bool(worse))


if __name__ == "__main__":
    main()
