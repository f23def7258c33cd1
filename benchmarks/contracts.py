"""The table of contracts and capabilities in CONTRIBUTING.md, from the Protocols themselves.

    python benchmarks/contracts.py          # writes the table between its markers

What a plug-in must have and what it may have is a Protocol of compression/ or algorithms/; a test says that the table has all.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import saddlebag.algorithms
import saddlebag.compression
from saddlebag.capabilities import members

__all__ = ["INSIDE", "KINDS", "page", "protocols", "table"]

PAGE = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"
BEGIN, END = "<!-- contracts: written by benchmarks/contracts.py -->", "<!-- end of contracts -->"
KINDS: dict[str, tuple[str, ...]] = {
    "a compressor": (
        "Compressor",
        *("Unbiased", "Contractive", "Absolute", "SharesDraws", "Joint", "Separable", "HasMeanNoise", "Adaptive", "Sparsifier"),
        *("HasLevels", "HasReference", "HasExamples"),
    ),
    "a payload": ("Payload",),
    "a method": (
        "Method",
        *(
            "Selective",
            "Mergeable",
            "SharesGrid",
            "Restartable",
            "Steerable",
            "Compresses",
            "HasStepSize",
            "HasProbability",
            "IsLate",
            "Foresees",
            "Narrow",
            "TakesAnyMean",
            "Sliceable",
            "Clips",
        ),
    ),
    "a replica": ("ReplicaState",),
    "a problem": (
        "Problem",
        *("HasActiveSet", "HasMask", "HasSolution", "HasTensors", "HasLocalBlocks", "PartlyKnown", "Divisible", "RunsOnDevice"),
        "LinkedProgram",
        *(
            "ShowsPictures",
            "HasTexts",
            "HasModules",
            "LendsModules",
            "StartsNarrow",
            "HasTokenizer",
            "HasNotes",
            "WritesItself",
        ),
    ),
    "an operator": ("FiniteSum", "LocalOperator", "OnDevice"),
    "a factory": ("Reads", "TakesWeights", "Sends", "BringsCompressors"),
    "a robust mean": ("RobustMean",),
    "a judge of runs": ("ForeseesVerdicts",),
    "a learner": (
        "Learner",
        *("WeightedLearner", "Careful", "MayNotAdd", "PredictsBlocks", "Replays", "ReplaysWeighted"),
        *("BoundsRegret", "BoundsRegretByRounds"),
    ),
    "a mixer": ("Mixer", "DeclaresRange", "SeparateExperts"),
    "a loss": ("Loss",),
}
"""Who has which; the contract first, where there is one."""
INSIDE = frozenset({"Blocks", "Evaluates", "Kernels", "Oracle", "Rows", "TextJudge", "Wire"})
"""Protocols between parts of this package, which no plug-in meets."""
_CONTRACTS = frozenset({"Compressor", "Payload", "Method", "ReplicaState", "Problem", "Learner", "Mixer", "Loss", "RobustMean"})


def protocols() -> dict[str, type]:
    """Name -> Protocol, of compression/ and algorithms/."""
    found: dict[str, type] = {}
    for package in (saddlebag.compression, saddlebag.algorithms):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith(".fused"):  # its import needs triton
                continue
            for name, each in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                if each.__module__ == module.name and getattr(each, "_is_protocol", False):
                    found[name] = each
    return found


def table() -> str:
    """What each kind of plug-in must have (in bold) and may have, as Markdown."""
    found = protocols()
    rows = ["| of | Protocol | members | what it says | in |", "|---|---|---|---|---|"]
    for kind, names in KINDS.items():
        for name in names:
            protocol = found[name]
            own = members(protocol) - {each for base in protocol.__bases__ for each in members(base)}
            said = (inspect.getdoc(protocol) or "").split("\n\n")[0].replace("\n", " ").replace("|", r"\|")
            place = protocol.__module__.removeprefix("saddlebag.").replace(".", "/") + ".py"
            shown = f"**{name}**" if name in _CONTRACTS else name
            rows.append(f"| {kind} | {shown} | {', '.join(f'`{each}`' for each in sorted(own))} | {said} | `{place}` |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with the table of the present code."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
