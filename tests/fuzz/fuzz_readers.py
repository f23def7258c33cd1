"""Throws byte strings at all that is read but messages: each is taken or refused by one of our errors, soon, in bounded memory.

    python tests/fuzz/fuzz_readers.py --executions 1000000                  all readers in turn; --only join journal
    python tests/fuzz/fuzz_readers.py --coverage -- corpus/ -max_total_time=600   libFuzzer through atheris

What breaks the law is printed as hexadecimal, with the reader's name, and ends the run with exit code 1: make it a test.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz_decode import MOST_KEPT, SLOWEST_S, mutated

if TYPE_CHECKING:
    from readers import Reader

MOST_GROWTH = 512 << 20
_TURN = 200  # strings for one reader before the next one's turn
_MENDED = 0.8


class Strings:
    """Mutants of what a reader takes, and of mutants that it has taken."""

    def __init__(self, reader: Reader, rng: random.Random) -> None:
        self._pool, self._seeds, self._rng = list(reader.seeds), len(reader.seeds), rng

    def next(self) -> bytes:
        rng = self._rng
        return mutated(rng.choice(self._pool), rng.choice(self._pool), rng)

    def keep(self, data: bytes) -> None:
        """A mutant that was taken is a start for others."""
        if len(data) > 20_000:
            return
        if len(self._pool) < self._seeds + MOST_KEPT:
            self._pool.append(data)
        else:
            self._pool[self._rng.randrange(self._seeds, len(self._pool))] = data


def broken(name: str, data: bytes, mend: bool, reason: str) -> None:
    print(f"BROKEN: {reason}\n{name}, {'mended' if mend else 'as it is'}\n{data.hex()}", flush=True)
    raise SystemExit(1)


def throw(name: str, reader: Reader, data: bytes, *, mend: bool) -> bool:
    """Whether the reader takes it; ends the program where the law is broken."""
    began_s = time.process_time()  # not the clock: other load on the machine is no fault
    try:
        taken = reader.takes(data, mend=mend)
    except Exception as error:
        broken(name, data, mend, f"{type(error).__name__}: {error}")
    if (took_s := time.process_time() - began_s) > SLOWEST_S:
        broken(name, data, mend, f"it took {took_s:.1f} s of CPU")
    return taken


def run(readers: dict[str, Reader], executions: int, seed: int) -> None:
    rng = random.Random(seed)
    for name, reader in readers.items():  # else nothing behind the first check would be reached
        assert any(reader.takes(data, mend=mend) for data in reader.seeds for mend in (True, False)), f"{name} takes no seed"
    strings = {name: Strings(reader, rng) for name, reader in readers.items()}
    thrown, taken = dict.fromkeys(readers, 0), dict.fromkeys(readers, 0)
    peak_before, began_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        while sum(thrown.values()) < executions:
            for name, reader in readers.items():
                for _ in range(_TURN):
                    data, thrown[name] = strings[name].next(), thrown[name] + 1
                    if throw(name, reader, data, mend=rng.random() < _MENDED):
                        taken[name] += 1
                        strings[name].keep(data)
    except KeyboardInterrupt:
        pass
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before) << 10
    told = ", ".join(f"{name} {thrown[name]:,} ({taken[name]:,})" for name in readers)
    print(f"{sum(thrown.values()):,} strings in {time.monotonic() - began_s:.0f} s (seed {seed}); of which taken: {told}")
    print(f"peak memory grew by {grown / 1e6:.0f} MB (bound {MOST_GROWTH / 1e6:.0f})")
    if grown > MOST_GROWTH:
        raise SystemExit("BROKEN: too much memory")


def run_with_coverage(only: list[str], arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["saddlebag.proto", "saddlebag.server", "saddlebag.launch.link"]):
        from readers import READERS
    readers = [(name, reader) for name, reader in READERS.items() if not only or name in only]

    def one(data: bytes) -> None:
        if data:
            name, reader = readers[data[0] % len(readers)]
            throw(name, reader, data[1:], mend=data[0] >= 64)

    corpus = Path(arguments[0]) if arguments and not arguments[0].startswith("-") else None
    if corpus is not None and not any(corpus.iterdir()):
        for number, (name, reader) in enumerate(readers):
            for place, seed in enumerate(reader.seeds):
                (corpus / f"{name}{place}").write_bytes(bytes((number - 64 // -len(readers) * len(readers),)) + seed)  # mended
    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument(
        "--coverage", action="store_true", help="guided by coverage; the rest goes to libFuzzer: [corpus] [-flags]"
    )
    parser.add_argument("libfuzzer", nargs="*")
    asked = parser.parse_args()
    if asked.coverage:
        run_with_coverage(asked.only, asked.libfuzzer)
        return
    from readers import READERS

    run({name: READERS[name] for name in asked.only or READERS}, asked.executions, asked.seed)


if __name__ == "__main__":
    main()
