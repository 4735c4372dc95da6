"""Kill commands at random moments; look for what they leave; compare what they give when resumed.

    python tests/fuzz/kills.py --kills 100 --seed 0

Each kill is a signal to a command, or SIGKILL to it and all processes of its group at once. Then no
process of it may run on and every file must be whole. After it was run again, no temporary file and
no shared memory of it may be left, and results must equal those of a command that was not killed.

Linux only: processes are found in /proc by an environment variable that all of them have.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file

PATIENCE_SECONDS = 8.0
"""Time in which the processes of a killed command must end."""
SHARED_MEMORY = Path("/dev/shm")
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT, "all": None}
"""Signals to a command; "all": SIGKILL to every process of its group."""

RECIPE = """
recipe = { name = "tiny" }
data = { source = "npz", path = "data.npz", shape = [1, 5, 5], classes = 3, input_bits = 2 }
network = { steps = 4, layers = [
    { type = "conv", channels = 4 }, { type = "conv", channels = 4, stride = 2 },
] }
neuron = { model = "lif" }
shortcut = { method = "evolutionary", after = ["conv1"] }
training = { epochs = 6, batch_size = 16, threads = 1 }
quantization = { fine_tune_epochs = 1 }
verification = { backend = "lava", lava_samples = 3 }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to kill.

    Attributes:
        words: Its arguments.
        results: Files and folders that hold its results.
        resumed: Arguments to add where it goes on, if `resumes` exists.
        resumes: File that shows that there is something to go on with.
    """

    words: str
    results: tuple[str, ...] = ()
    resumed: str = ""
    resumes: str = ""


SIMULATE = "simulate trained/network.net -i big.npz -o out.npz"
RESUMED = {"resumed": "--resume", "resumes": "out.npz.parts"}
COMMANDS = {
    "train": Command(
        words="train tiny.toml --out new", results=("new",), resumed="--resume",
        resumes="new/recipe.toml",
    ),
    "run": Command(
        words="run tiny.toml --out new", results=("new",), resumed="--resume",
        resumes="new/recipe.toml",
    ),
    "deploy": Command(words="deploy trained --out new", results=("new",)),
    "simulate": Command(words=f"{SIMULATE} --memory 280MB", results=("out.npz",), **RESUMED),
    "workers": Command(
        words=f"{SIMULATE} --memory 1GB --workers 2", results=("out.npz",), **RESUMED
    ),
    "dask": Command(
        words=f"{SIMULATE} --memory 2GB --engine dask --workers 2", results=("out.npz",), **RESUMED
    ),
    "ray": Command(
        words=f"{SIMULATE} --memory 2GB --engine ray --workers 2", results=("out.npz",), **RESUMED
    ),
    "verify": Command(words="verify trained -i trained/samples.npz"),
    "lava": Command(
        words="simulate trained -i long.npz -o out.npz --backend lava", results=("out.npz",)
    ),
    "report": Command(
        words="report trained -i trained/samples.npz --html page.html",
        results=("page.html",),
    ),
}  # fmt: skip


class Campaign:
    """Commands, killed one after the other in folders of their own.

    Args:
        scratch: A folder, new or of an earlier campaign, whose networks and results are used again.
        seed: Of the moments and signals.
    """

    def __init__(self, scratch: Path, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.scratch, self.temporary, self.start = scratch, scratch / "tmp", scratch / "start"
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.seconds: dict[str, float] = {}
        self.wanted: dict[str, dict[str, str]] = {}
        self.others: set[Path] = set()
        self.temporary.mkdir(exist_ok=True)
        if not self.start.exists():
            self.prepare()
        self.measured = scratch / "measured.json"
        if self.measured.exists():
            self.seconds, self.wanted = json.loads(self.measured.read_text(encoding="utf-8"))

    def prepare(self) -> None:
        """Train and deploy a network, and make samples for it."""
        building = self.scratch / "building"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        patterns = self.random.integers(0, 2, (3, 1, 5, 5))[np.arange(150) % 3]
        images = (3 * patterns + self.random.integers(0, 2, patterns.shape)).astype(np.uint8)
        np.savez(building / "data.npz", input=images, label=np.arange(150) % 3)
        (building / "tiny.toml").write_text(RECIPE, encoding="utf-8")
        self.finish(building, "run tiny.toml --out trained")
        samples = np.load(building / "trained" / "samples.npz")["input"]
        np.savez(building / "big.npz", input=np.tile(samples, (20_000, 1, 1, 1, 1)))
        np.savez(building / "long.npz", input=np.tile(samples, (400, 1, 1, 1, 1)))
        building.rename(self.start)

    def popen(self, folder: Path, words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "neurodeploy", *words.split()]
        return subprocess.Popen(
            command, cwd=folder, env=os.environ | {"TMPDIR": str(self.temporary)}, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def finish(self, folder: Path, words: str) -> None:
        """Run a command to its end."""
        process = self.popen(folder, words)
        _, complaint = process.communicate(timeout=600)
        if process.returncode:
            raise SystemExit(f"{words}: {complaint}")

    def copy(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="work-", dir=self.scratch))
        shutil.copytree(
            self.start, folder, dirs_exist_ok=True,
            copy_function=lambda old, new: (
                os.link(old, new) if old.endswith(".npz") else shutil.copy(old, new)
            ),
        )  # fmt: skip
        return folder

    def measure(self, name: str) -> None:
        """Run a command without a kill: how long it takes, and what it gives."""
        folder, begin = self.copy(), time.monotonic()
        self.finish(folder, COMMANDS[name].words)
        self.seconds[name] = time.monotonic() - begin
        self.wanted[name] = digests(folder, COMMANDS[name].results)
        text = json.dumps([self.seconds, self.wanted])
        self.measured.write_text(text, encoding="utf-8")
        shutil.rmtree(folder)

    def kill(self, name: str, kind: str) -> None:
        """Kill a command once, look, run it again, and look again."""
        if name not in self.seconds:
            self.measure(name)
        command, folder = COMMANDS[name], self.copy()
        self.others = set(SHARED_MEMORY.iterdir())
        process = self.popen(folder, command.words)
        moment = float(self.random.uniform(0, self.seconds[name]))
        try:
            _, complaint = process.communicate(timeout=moment)
            self.note(name, kind, "ended before")
        except subprocess.TimeoutExpired:
            if kind == "all":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.send_signal(SIGNALS[kind])
            _, complaint = process.communicate(timeout=60)
        self.note(name, kind, "kills")
        found = {"orphans": self.orphans(), "tracebacks": "Traceback" in complaint}
        found["half written"] = not is_whole(folder)
        if kind in ("TERM", "INT"):
            found["litter at once"] = self.litter(process.pid)
        again = command.words
        if command.resumes and (folder / command.resumes).exists():
            again += f" {command.resumed}"
        self.finish(folder, again)
        found["litter"] = [*self.litter(process.pid), *hidden(folder)]
        found["unequal"] = digests(folder, command.results) != self.wanted[name]
        for fault, details in found.items():
            if details:
                self.note(name, kind, fault)
                print(f"{name} {kind} after {moment:.2f} s: {fault} {details}", flush=True)
                if fault == "tracebacks":
                    print("    " + "\n    ".join(complaint.splitlines()[-3:]), flush=True)
        shutil.rmtree(folder)

    def note(self, name: str, kind: str, what: str) -> None:
        self.counts[name, kind, what] += 1

    def orphans(self) -> list[str]:
        """Return the processes that still run; end them."""
        end = time.monotonic() + PATIENCE_SECONDS
        mark = f"TMPDIR={self.temporary}".encode()
        while (found := list(processes_with(mark))) and time.monotonic() < end:
            time.sleep(0.05)
        for process, _ in found:
            os.kill(process, signal.SIGKILL)
        return [words for _, words in found]

    def litter(self, process: int) -> list[str]:
        # What was there before is of an older process of the same number.
        shared = set(SHARED_MEMORY.glob(f"*[-_]{process}[-_]*")) - self.others
        ours = [*self.temporary.iterdir(), *shared]
        # Which libraries make once for all processes; Ray keeps the logs of its sessions.
        usual = ("torchinductor_", ".ses", "ray")
        return [path.name for path in ours if not path.name.startswith(usual)]

    def report(self) -> None:
        faults = ("orphans", "litter at once", "litter", "half written", "unequal", "tracebacks")
        columns = ("kills", "ended before", *faults)
        print("\n| command | signal |", " | ".join(columns), "|")
        print("|---|---|" + "---|" * len(columns))
        for name in COMMANDS:
            for kind in SIGNALS:
                numbers = [self.counts[name, kind, column] for column in columns]
                if numbers[0]:
                    print(f"| {name} | {kind} |", " | ".join(map(str, numbers)), "|")
        sums = [sum(self.counts[n, k, c] for n in COMMANDS for k in SIGNALS) for c in columns]
        print("| all | |", " | ".join(map(str, sums)), "|")


def processes_with(mark: bytes) -> Iterator[tuple[int, str]]:
    """Yield number and words of each running process whose environment holds a mark."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX" and mark in (entry / "environ").read_bytes():
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                yield int(entry.name), words[:200]
        except OSError:
            continue


def hidden(folder: Path) -> list[str]:
    """Names of temporary files beside results, and of locks."""
    return [path.name for path in folder.rglob(".*")]


def is_whole(folder: Path) -> bool:
    """Return whether each file under its final name can be read to its end."""
    for path in folder.rglob("[!.]*"):
        try:
            digests(path.parent, (path.name,)) if path.is_file() else None
        except Exception as error:
            print(f"{path.name}: {error}", flush=True)
            return False
    return True


def digests(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Hash the numbers in result files; what tells of time and place is left out."""
    found = {}
    for path in (each for name in names for each in files_in(folder / name)):
        content: object = None
        match path.suffix:
            case ".npz":
                with np.load(path) as arrays:
                    content = {name: plain(arrays[name]) for name in sorted(arrays)}
            case ".safetensors":
                arrays = load_file(path)
                content = {name: plain(arrays[name]) for name in sorted(arrays)}
            case ".net":
                content = {}
                with h5py.File(path) as file:
                    file.visititems(lambda name, item, content=content: content.update(
                        {name: plain(item[()])} if isinstance(item, h5py.Dataset) else {}
                    ))  # fmt: skip
            case ".json":
                json.loads(path.read_text(encoding="utf-8"))
            case ".html":
                assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
        if content is not None:
            digest = hashlib.sha256(repr(content).encode()).hexdigest()
            found[str(path.relative_to(folder))] = digest
    return found


def plain(array: object) -> tuple[object, str]:
    values = np.asarray(array)
    return values.shape, hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def files_in(path: Path) -> list[Path]:
    return (
        [path] if path.is_file() else sorted(each for each in path.rglob("[!.]*") if each.is_file())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--keep", type=Path, help="folder for networks and results, used again")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        if arguments.keep is not None:
            arguments.keep.mkdir(parents=True, exist_ok=True)
        campaign = Campaign(arguments.keep or Path(name), arguments.seed)
        cases = [(command, kind) for kind in SIGNALS for command in arguments.only]
        offset = int(campaign.random.integers(len(cases)))
        for number in range(arguments.kills):
            if time.monotonic() > end:
                break
            campaign.kill(*cases[(number + offset) % len(cases)])
        campaign.report()
    faults = [what for _, _, what in campaign.counts if what not in ("kills", "ended before")]
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
