"""Mutate files of every kind, read them under limits, and keep what goes wrong.

    python tests/fuzz/campaign.py --minutes 10
    python tests/fuzz/campaign.py --kind netx --kind npz --inputs 10000
    python tests/fuzz/campaign.py --kind netx --number 123456

Inputs are numbered: kind, number and version of the fuzzers make the same bytes again (but for the
times that HDF5 writes into some of its files). Each is read
in a process that may be lost, at most a few seconds long. What goes wrong is made smaller, and kept
in `corpus/` under a name that says kind and cause; the normal tests read all that is kept there.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import mmap
import multiprocessing
import os
import re
import resource
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))

from judging import Judge, Verdict
from targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
_BATCH = 500
_WALL_SECONDS = 90.0
"""Time after which a process that does not even compute is lost."""
_ADDRESS_SPACE = 2 << 30
_STATE = struct.Struct("qid")
_MAKING, _READING, _IDLE = range(3)
_fork = multiprocessing.get_context("fork")


def make_input(kind: str, number: int, files: tuple[bytes, ...]) -> bytes:
    """Return the input of a number."""
    return TARGETS[kind].mutate(Random(f"{kind} {number}"), files)


@dataclass(kw_only=True)
class Tally:
    """What came of the inputs of one kind."""

    inputs: int = 0
    accepted: int = 0
    peak: int = 0
    seconds: float = 0.0
    causes: Counter[str] = field(default_factory=Counter)

    def row(self) -> dict[str, object]:
        groups = Counter[str]()
        for cause, count in self.causes.items():
            groups[_group(cause)] += count
        return {
            "inputs": self.inputs,
            "accepted": self.accepted,
            "crashes": groups["crash"],
            "hangs": groups["hang"],
            "uncaught": groups["uncaught"],
            "memory": groups["memory"],
            "nonsense": groups["nonsense"],
            "other": groups["other"],
            "peak_mb": round(self.peak / 1e6, 1),
            "per_second": round(self.inputs / max(self.seconds, 1e-9)),
        }


def _group(cause: str) -> str:
    starts = {
        "signal": "crash",
        "hang": "hang",
        "slow": "hang",
        "memory": "memory",
        "allocation": "memory",
        "nonsense": "nonsense",
        "opens": "nonsense",
    }
    for start, group in starts.items():
        if cause.startswith(start):
            return group
    is_other = cause.startswith(("wrong class", "endless", "warning"))
    return "other" if is_other else "uncaught"


# --- the process that reads -----------------------------------------------------------------------


def _serve(
    kind: str, files: tuple[bytes, ...], state: mmap.mmap, requests: Connection, folder: Path
) -> None:
    """Answer (first, count) by a tally and by findings; `state` says what is being done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _silence()
    target = TARGETS[kind]
    judge = Judge(target, folder)
    for content in files[:3]:  # what is loaded or compiled on first use is no input's fault
        judge.judge(content)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESS_SPACE, resource.RLIM_INFINITY))
    while True:
        try:
            inputs = requests.recv()
        except EOFError:
            return
        findings: list[tuple[int | bytes, Verdict]] = []
        accepted = peak = 0
        for place, given in enumerate(inputs):
            _STATE.pack_into(state, 0, place, _MAKING, time.monotonic())
            content = given if isinstance(given, bytes) else make_input(kind, given, files)
            _STATE.pack_into(state, 0, place, _READING, time.monotonic())
            signal.setitimer(signal.ITIMER_PROF, 3 * target.seconds)
            verdict = judge.judge(content)
            signal.setitimer(signal.ITIMER_PROF, 0)
            accepted += verdict.is_accepted
            peak = max(peak, verdict.peak)
            if verdict.cause:
                findings.append((given, verdict))
        _STATE.pack_into(state, 0, -1, _IDLE, time.monotonic())
        requests.send((accepted, peak, findings))


def _silence() -> None:
    """Let nothing that libraries print reach the terminal."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


class Reader:
    """The process that reads inputs of one kind, started again whenever it is lost."""

    def __init__(self, kind: str, files: tuple[bytes, ...], folder: Path) -> None:
        self.kind, self.files, self.folder = kind, files, folder
        self._state = mmap.mmap(-1, _STATE.size)
        self._process: multiprocessing.process.BaseProcess | None = None

    def read(self, inputs: range | list[bytes]) -> Iterator[tuple[int, int, int, list]]:
        """Yield (inputs, accepted, peak, findings) until all are read."""
        waiting = list(inputs)
        while waiting:
            if self._process is None:
                self._start()
            self._ours.send(waiting)
            answer, lost = self._wait()
            if lost is None:
                yield len(waiting), *answer
                return
            done, cause = lost
            verdict = Verdict(cause=cause, is_accepted=False, peak=0)
            yield done + 1, 0, 0, [(waiting[done], verdict)] if cause else []
            waiting = waiting[done + 1 :]

    def _start(self) -> None:
        self._ours, theirs = _fork.Pipe()
        self.folder.mkdir(parents=True, exist_ok=True)
        _STATE.pack_into(self._state, 0, -1, _IDLE, time.monotonic())
        self._process = _fork.Process(
            target=_serve, args=(self.kind, self.files, self._state, theirs, self.folder)
        )
        self._process.start()
        theirs.close()

    def _wait(self) -> tuple[tuple[int, int, list] | None, tuple[int, str] | None]:
        assert self._process is not None
        while not self._ours.poll(1.0):
            _, phase, since = _STATE.unpack_from(self._state)
            if phase != _IDLE and time.monotonic() - since > _WALL_SECONDS:
                self._process.kill()
                return None, self._lost("hang")
        try:
            return self._ours.recv(), None
        except (EOFError, ConnectionError):
            return None, self._lost("")

    def _lost(self, cause: str) -> tuple[int, str]:
        """Return how many inputs were read, and why the next one was the last."""
        assert self._process is not None
        self._process.join()
        code = -(self._process.exitcode or 0)
        place, phase, _ = _STATE.unpack_from(self._state)
        self._process = None
        if phase == _IDLE:
            raise SystemExit(f"{self.kind}: the process that reads cannot start, signal {code}")
        if phase == _MAKING:
            cause = ""  # a fault of the fuzzer or of a library under it, in a file that it makes
        elif not cause:
            cause = "hang" if code == signal.SIGPROF else f"signal {code}"
        return place, cause

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


# --- findings -------------------------------------------------------------------------------------


def file_name(kind: str, cause: str, content: bytes, suffix: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "-", cause).strip("-")[:70]
    return f"{kind}__{words}__{hashlib.sha256(content).hexdigest()[:8]}{suffix}"


def smaller(reader: Reader, number: int, cause: str, seconds: float = 3.0) -> bytes:
    """Return an input with the same cause from which pieces were taken out, if that is quick."""
    content = make_input(reader.kind, number, reader.files)
    deadline = time.monotonic() + seconds
    if cause in ("hang", "slow") or len(content) > 1 << 20:
        return content
    length = len(content) // 2
    while length and time.monotonic() < deadline:
        for place in range(0, len(content), length):
            shorter = content[:place] + content[place + length :]
            if shorter and causes_of(reader, shorter) == cause:
                content = shorter
                break
            if time.monotonic() > deadline:
                break
        else:
            length //= 2
    return content


def causes_of(reader: Reader, content: bytes) -> str:
    for _, _, _, findings in reader.read([content]):
        for _, verdict in findings:
            return verdict.cause
    return ""


class Campaign:
    """Readers of some kinds, fed in turn, and the tally of each."""

    def __init__(self, kinds: list[str], folder: Path, corpus: Path) -> None:
        self.tallies = {kind: Tally() for kind in kinds}
        self._corpus = corpus
        files = _made_apart(kinds)
        self._readers = {kind: Reader(kind, files[kind], folder / kind) for kind in kinds}

    def run(self, kind: str, numbers: range) -> None:
        tally, begin, new = self.tallies[kind], time.monotonic(), []
        for inputs, accepted, peak, findings in self._readers[kind].read(numbers):
            tally.inputs += inputs
            tally.accepted += accepted
            tally.peak = max(tally.peak, peak)
            for number, verdict in findings:
                if not tally.causes[verdict.cause]:
                    new.append((number, verdict))
                tally.causes[verdict.cause] += 1
        tally.seconds += time.monotonic() - begin
        for number, verdict in new:
            self._keep(kind, number, verdict)

    def _keep(self, kind: str, number: int, verdict: Verdict) -> None:
        content = smaller(self._readers[kind], number, verdict.cause)
        self._corpus.mkdir(exist_ok=True)
        suffix = Path(TARGETS[kind].file).suffix
        path = self._corpus / file_name(kind, verdict.cause, content, suffix)
        path.write_bytes(content)
        told = f"{kind} {number}: {verdict.cause}\n{path.name}\n{verdict.detail.strip()}"[:2000]
        print(ascii(told)[1:-1].replace(r"\n", "\n    "), flush=True)

    def stop(self) -> None:
        for reader in self._readers.values():
            reader.stop()


def _made_apart(kinds: list[str]) -> dict[str, tuple[bytes, ...]]:
    """Make the seeds in a process of its own: threads of simulators do not survive forks."""
    ours, theirs = _fork.Pipe()

    def make() -> None:
        import seeds

        theirs.send({kind: TARGETS[kind].seeds() for kind in kinds})
        theirs.send(seeds.parts() if any(kind.startswith("part") for kind in kinds) else {})

    process = _fork.Process(target=make)
    process.start()
    theirs.close()
    files = ours.recv()
    import seeds

    parts = ours.recv()
    seeds.parts = lambda: parts
    process.join()
    return files


def _print_table(tallies: dict[str, Tally]) -> None:
    rows = {kind: tally.row() for kind, tally in tallies.items()}
    columns = list(next(iter(rows.values())))
    print(f"{'kind':13}" + "".join(f"{one:>11}" for one in columns))
    for kind, row in rows.items():
        print(f"{kind:13}" + "".join(f"{row[one]:>11}" for one in columns))
    numbers = [[row[one] for row in rows.values()] for one in columns]
    totals = [
        max(each) if one == "peak_mb" else sum(each)
        for one, each in zip(columns, numbers, strict=True)
    ]
    print(f"{'all':13}" + "".join(f"{one:>11}" for one in totals[:-1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="time for all kinds together")
    parser.add_argument("--inputs", type=int, help="inputs of each kind, instead of a time")
    parser.add_argument("--kind", action="append", choices=TARGETS, help="again for more; all")
    parser.add_argument("--first", type=int, default=int(time.time()) * 1000, help="first number")
    parser.add_argument("--number", type=int, help="write the input of this number to ./input")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where findings go")
    parser.add_argument("--json", type=Path, help="add the tally to this file, a line each")
    options = parser.parse_args()
    kinds = options.kind or list(TARGETS)
    if options.number is not None:
        content = make_input(kinds[0], options.number, _made_apart(kinds)[kinds[0]])
        Path("input").with_suffix(Path(TARGETS[kinds[0]].file).suffix).write_bytes(content)
        return 0
    folder = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp") / f"fuzz-{os.getpid()}"
    campaign = Campaign(kinds, folder, options.corpus)
    print(f"from number {options.first}", flush=True)
    try:
        _feed(campaign, kinds, options)
    except KeyboardInterrupt:
        pass
    finally:
        campaign.stop()
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
    _print_table(campaign.tallies)
    if options.json:
        with options.json.open("a") as file:
            for kind, tally in campaign.tallies.items():
                entry = {"kind": kind, **tally.row(), "causes": dict(tally.causes)}
                file.write(json.dumps(entry) + "\n")
    return 1 if any(tally.causes for tally in campaign.tallies.values()) else 0


def _feed(campaign: Campaign, kinds: list[str], options: argparse.Namespace) -> None:
    """Give every kind its share of the time, or its number of inputs."""
    if options.inputs:
        for kind in kinds:
            for first in range(options.first, options.first + options.inputs, _BATCH):
                last = min(first + _BATCH, options.first + options.inputs)
                campaign.run(kind, range(first, last))
        return
    deadline = time.monotonic() + 60 * options.minutes
    following = dict.fromkeys(kinds, options.first)
    size = 20
    while time.monotonic() < deadline:
        for kind in kinds:
            tally = campaign.tallies[kind]
            per_second = tally.inputs / tally.seconds if tally.seconds else 0
            count = int(min(_BATCH, per_second * TARGETS[kind].weight)) or size
            campaign.run(kind, range(following[kind], following[kind] + count))
            following[kind] += count
            if time.monotonic() > deadline:
                break


if __name__ == "__main__":
    sys.exit(main())
