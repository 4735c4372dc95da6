"""A plan on paper for many samples on many machines, from measured constants.

    python tests/benchmarks/plan.py [--samples 1000000 --machines 100 --cores 16 --gbit 10]

Constants are those of clusters.json, which `clusters.py` writes: processor time of a sample in a
bare process, and of a piece in the process that hands it out; memory of a worker; bytes of a
result. What it takes to keep a part on disk and to join it is measured here. Cores are taken to be
as fast as the one that was measured, and not to slow each other down. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from networks import RESULTS
from streaming import SHAPE, make_network

from neurodeploy.simulation import EventSimulator, Record
from neurodeploy.simulation.long_runs.long_run import TASK_BYTES, piece_number
from neurodeploy.simulation.long_runs.memory import SAMPLES_MAX
from neurodeploy.simulation.long_runs.parts import PartStore, pack_part
from neurodeploy.simulation.long_runs.pieces import PieceReader

SAMPLE_BYTES = prod(SHAPE)
PARTS = 40


@dataclass(frozen=True)
class Numbered:
    """Samples of which only the number counts."""

    count: int
    name: str = "samples"
    shape: tuple[int, ...] = SHAPE

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return np.dtype(np.uint8)

    def read(self, first: int, last: int) -> np.ndarray:
        raise NotImplementedError


def count_pieces(samples: int, workers: int, most: int) -> int:
    """Return how many pieces a run hands out."""
    least = -(-samples // piece_number(workers))
    reader = PieceReader(
        samples=Numbered(samples), plan=None, size=most, least=least, workers=workers,
        finished=(), checks=False, sends=False,
    )  # fmt: skip
    return sum(1 for _ in reader)


def seconds_a_part() -> float:
    """Return what it takes to keep a part, check it, and read its arrays, to join them."""
    rng = np.random.default_rng(0)
    graph = make_network(rng)
    values = (rng.random((16, *SHAPE)) < 0.05).astype(np.uint8)
    record = Record(spikes=graph.names[-1:], states=())
    data = pack_part(EventSimulator(graph).run(values, record=record), values)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = PartStore(Path(folder) / "parts", {"network": "1"})
        with store.locked():
            begin = time.perf_counter()
            for number in range(PARTS):
                store.write(16 * number, 16 * (number + 1), data)
            for part in store.parts():
                part.record()
                for name in part.array_names():
                    part.array(name)
            return (time.perf_counter() - begin) / PARTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10**6)
    parser.add_argument("--machines", type=int, default=100)
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--gbit", type=float, default=10, help="of each network card, a second")
    options = parser.parse_args()
    measured = json.loads((RESULTS / "clusters.json").read_text(encoding="utf-8"))["results"]
    pieces_of, part = measured["seconds_here_a_piece"], seconds_a_part()
    samples, workers = options.samples, options.machines * options.cores
    rate = options.gbit * 1e9 / 8
    print(f"a part takes {1000 * part:.1f} ms to keep and to join")
    print("| network, way | computing | handing out, results | samples over one card | memory |")
    print("|---|---|---|---|---|")
    for name, found in measured["networks"].items():
        sample = found["plain"]["workers_1"]["elsewhere"]["median"]
        computing = samples * sample / workers
        for way, engine in (("shared file", "dask"), ("shared file", "ray"), ("sent", "dask")):
            sends = way == "sent"
            most = TASK_BYTES // SAMPLE_BYTES if sends else SAMPLES_MAX
            costs = found[engine]["workers_2"]
            pieces = count_pieces(samples, workers, most)
            piece = pieces_of[engine]["median"] + part
            held = 2**20 * costs["peak_mib"]["median"] * options.cores
            waiting = f"client {(workers + 1) * TASK_BYTES / 1e9:.0f} GB; " if sends else ""
            print(
                f"| {name}, {engine}, {way} | {computing:.1f} s | {pieces:,} pieces, "
                f"{1000 * piece:.1f} ms each: {pieces * piece:.0f} s | "
                f"{samples * SAMPLE_BYTES / rate:.0f} s | {waiting}machine {held / 1e9:.1f} GB |"
            )
        share, costs = samples // options.machines, found["local"]["workers_2"]
        pieces = count_pieces(share, options.cores, SAMPLES_MAX)
        piece = pieces_of["local"]["median"] + part
        held = 2**20 * costs["peak_mib"]["median"] * options.cores
        print(
            f"| {name}, a run and a file on each machine | {computing:.1f} s | {pieces:,} pieces, "
            f"{1000 * piece:.1f} ms each: {pieces * piece:.1f} s | none | {held / 1e9:.1f} GB |"
        )


if __name__ == "__main__":
    main()
