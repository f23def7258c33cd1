"""The way of a recipe from its file to the first round of a collective run: which files are entered, and how often.

    python benchmarks/way.py [RECIPE] [--under launch]

One rank runs the command in this process, once to import what there is, then with `sys.setprofile`, until a worker's first
step. A function counts where it is first called, for who reads along opens it once; a stay is a run of these within one file,
a turn back a stay in a file that was entered before.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from harness import free_port

if TYPE_CHECKING:
    from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parent.parent
_LAST = "worker_step"


class Reached(BaseException):
    """The first round has begun; no error, which the command would report."""


def visits(recipe: Path, package: Path) -> list[str]:
    """The files of the package whose functions were called, in order, up to the first step."""
    from saddlebag.launch.cli import main

    found: list[str] = []
    seen: set[CodeType] = set()

    def look(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(str(package)):
            return
        if frame.f_code.co_name.startswith("<"):  # a module, a comprehension, a lambda
            return
        if frame.f_code not in seen:
            seen.add(frame.f_code)
            found.append(str(Path(frame.f_code.co_filename).relative_to(package)))
        if frame.f_code.co_name == _LAST:
            sys.setprofile(None)
            raise Reached

    alone = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    alone |= {"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "way", "TORCHELASTIC_RESTART_COUNT": "0"}
    with tempfile.TemporaryDirectory() as folder:
        for attempt in ("first", "second"):
            os.environ.update(alone, MASTER_PORT=str(free_port()))
            arguments = ["collective", str(recipe), "--out", f"{folder}/{attempt}"]
            for key in ("workers=1", "stop.max_rounds=1", 'driver="collective"'):
                arguments += ["--set", key]
            found.clear()
            seen.clear()
            sys.setprofile(look)
            try:
                main(arguments)
            except (Reached, SystemExit):
                pass
            finally:
                sys.setprofile(None)
    return found


def stays(found: list[str]) -> list[str]:
    """Runs of calls in one file, as that file's name."""
    return [name for name, _ in itertools.groupby(found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", type=Path, default=ROOT / "launch" / "recipes" / "bilinear_innovations.toml")
    parser.add_argument("--under", default="", metavar="FOLDER", help="only files under it, such as launch")
    args = parser.parse_args()
    import saddlebag

    package = Path(saddlebag.__file__).parent
    path = stays([name for name in visits(args.recipe, package) if name.startswith(args.under)])
    entered = Counter(path)
    print("\n".join(f"{count:4} {name}" for name, count in entered.most_common()))
    print(f"{len(entered)} files, {len(path)} stays, {len(path) - len(entered)} turns back")


if __name__ == "__main__":
    main()
