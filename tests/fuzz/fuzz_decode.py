"""Throws byte strings at `decode`: any of them is a message or a `RemoteProtocolError`, soon and within bounded memory.

    python tests/fuzz/fuzz_decode.py --executions 10000000     random and mutated messages, until so many or Ctrl-C
    python tests/fuzz/fuzz_decode.py --coverage -- -max_total_time=600   libFuzzer through atheris (`pip install atheris`)

What breaks the law is printed as hexadecimal, with its sizes, and ends the run with exit code 1: make it a test.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors"
SIZES = [(1,), (7,), (9, 5), (100,), (257,), (300, 20), (3000,), (20_000,), (70_000,)]
"""Dimensions that are announced; small, so that many strings are tried."""
MOST_BYTES_A_COORDINATE = 1000
"""Memory that a message may take beyond what the process has anyway: 8 terms of indices, values and working copies."""
SLOWEST_S = 2.0
MOST_KEPT = 500
_EDGES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 0x7F, 0x80, 0xFE, 0xFF)


def golden() -> list[tuple[bytes, tuple[int, ...]]]:
    """The committed messages of every layout and coding."""
    cases = [case for path in sorted(VECTORS.glob("codec_v*.json")) for case in json.loads(path.read_text(encoding="utf-8"))]
    return [(bytes.fromhex(case["hex"]), tuple(case["sizes"])) for case in cases]


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A few edits, more of them at the front, where the headers are."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(min(len(out), 16) if rng.random() < 0.6 else len(out)) if out else 0
        match rng.randrange(8):
            case 0:
                del out[at : at + rng.choice((1, 1, 2, 5, 1000))]
            case 1:
                out[at:at] = bytes((rng.choice(_EDGES),)) * rng.choice((1, 1, 2, 9))
            case 2:
                out[at : at + 1] = bytes((rng.randrange(256),))
            case 3 if out:
                out[at] ^= 1 << rng.randrange(8)
            case 4 if other:
                start = rng.randrange(len(other))
                out[at:at] = other[start : start + rng.randrange(1, 40)]
            case 5:
                out[at:at] = out[at : at + rng.randrange(1, 20)]
            case 6:
                out[at:at] = rng.randbytes(rng.randrange(1, 12))
            case _:
                out[at : at + 1] = bytes((rng.choice(_EDGES),))
    return bytes(out)


class Strings:
    """Random strings behind a likely layout byte; golden messages and what became of them, under right and wrong sizes."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self._pool = rng, golden()
        self._seeds = len(self._pool)

    def next(self) -> tuple[bytes, tuple[int, ...]]:
        rng = self._rng
        if rng.random() < 0.1:
            return bytes((rng.randrange(64),)) + rng.randbytes(rng.randrange(60)), rng.choice(SIZES)
        data, sizes = rng.choice(self._pool)
        if rng.random() < 0.1 or max(sizes) > 10**6:
            sizes = rng.choice(SIZES)
        return mutated(data, rng.choice(self._pool)[0], rng), sizes

    def keep(self, data: bytes, sizes: tuple[int, ...]) -> None:
        """A mutant that is a message is a start for others."""
        if len(data) < 4000:
            if len(self._pool) < self._seeds + MOST_KEPT:
                self._pool.append((data, sizes))
            else:
                self._pool[self._rng.randrange(self._seeds, len(self._pool))] = (data, sizes)


class Law:
    """Decodes a string whole, sometimes in pieces too, and holds the result to what it promises."""

    def __init__(self) -> None:
        import numpy as np

        from saddlebag.compression import Draws
        from saddlebag.errors import RemoteProtocolError
        from saddlebag.proto.codec import decode, encode
        from saddlebag.proto.streaming import StreamDecoder

        self._np, self._decode, self._encode, self._pieces = np, decode, encode, StreamDecoder
        self._refusal = RemoteProtocolError
        self.draws = Draws(20220101, 17, 3)
        self.accepted = self.executions = 0

    def hold(self, data: bytes, sizes: tuple[int, ...], *, thorough: bool) -> bool:
        """Whether the string is a message."""
        self.executions += 1
        try:
            message = self._decode(data, sizes, self.draws)
        except self._refusal:
            message = None
        if message is not None:
            self.accepted += 1
            assert tuple(part.dimension for part in message.parts) == sizes, "other sizes than announced"
        if not thorough:
            return message is not None
        assert (message is None) == (self._in_pieces(data, sizes) is None), "pieces and the whole disagree"
        if message is not None:
            again = self._decode(b"".join(self._encode(message)), sizes, self.draws)
            with self._np.errstate(over="ignore", invalid="ignore"):  # a sum of legal float64 values may overflow
                for part, other in zip(message.parts, again.parts, strict=True):
                    assert self._np.array_equal(part.dense(), other.dense(), equal_nan=True), "other values when sent again"
        return message is not None

    def _in_pieces(self, data: bytes, sizes: tuple[int, ...]) -> list[Any] | None:
        try:
            decoder = self._pieces(sizes, self.draws, len(data))
            cut = len(data) // 3
            return [*decoder.feed(data[:cut]), *decoder.feed(data[cut:])]
        except self._refusal:
            return None


def report_and_exit(data: bytes, sizes: tuple[int, ...], reason: str) -> None:
    print(f"BROKEN: {reason}\nsizes {sizes}\n{data.hex()}", flush=True)
    raise SystemExit(1)


def run(executions: int, seed: int) -> None:
    strings, law = Strings(random.Random(seed)), Law()
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slowest_s, began = 0.0, time.monotonic()
    try:
        while law.executions < executions:
            data, sizes = strings.next()
            at = time.process_time()  # not the clock: other load on the machine is no fault
            try:
                if law.hold(data, sizes, thorough=law.executions % 20 == 0):
                    strings.keep(data, sizes)
            except Exception as error:
                report_and_exit(data, sizes, f"{type(error).__name__}: {error}")
            took_s = time.process_time() - at
            if took_s > slowest_s:
                slowest_s = took_s
                if took_s > SLOWEST_S:
                    report_and_exit(data, sizes, f"it took {took_s:.1f} s of CPU, string {law.executions}")
    except KeyboardInterrupt:
        pass
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before) << 10
    bound = MOST_BYTES_A_COORDINATE * max(map(sum, SIZES)) + (64 << 20)
    print(
        f"{law.executions:,} strings, {law.accepted:,} of them messages, in {time.monotonic() - began:.0f} s (seed {seed}); "
        f"slowest {1e3 * slowest_s:.0f} ms; peak memory grew by {grown / 1e6:.0f} MB (bound {bound / 1e6:.0f})"
    )
    if grown > bound:
        raise SystemExit("BROKEN: too much memory")


def run_with_coverage(arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["saddlebag.proto"]):
        law = Law()

    def one(data: bytes) -> None:
        if data:
            law.hold(data[1:], SIZES[data[0] % len(SIZES)], thorough=data[0] & 0x80 > 0)

    corpus = Path(arguments[0]) if arguments and not arguments[0].startswith("-") else None
    if corpus is not None and not any(corpus.iterdir()):
        for number, (data, sizes) in enumerate(golden()):
            place = SIZES.index(sizes) if sizes in SIZES else number % len(SIZES)
            (corpus / f"golden{number}").write_bytes(bytes((place,)) + data)
    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--coverage", action="store_true", help="guided by coverage; the rest goes to libFuzzer: [corpus] [-flags]"
    )
    parser.add_argument("libfuzzer", nargs="*")
    arguments = parser.parse_args()
    if arguments.coverage:
        run_with_coverage(arguments.libfuzzer)
    else:
        run(arguments.executions, arguments.seed)


if __name__ == "__main__":
    main()
