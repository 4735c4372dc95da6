"""Runs spread over processes and clusters: equal to one process, also when workers are killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from neurodeploy import netx
from neurodeploy.errors import SimulationError
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.simulation import EventSimulator
from neurodeploy.simulation.long_runs import engines
from neurodeploy.simulation.long_runs.long_run import parts_folder, run_samples
from neurodeploy.simulation.recording_files import save_recording

ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "RAY_AUTH_MODE": "disabled",  # `ray start` asks for a token by default
}
COUNT = 48


@pytest.fixture(scope="module")
def network() -> Path:
    return Path(__file__).parents[1] / "golden" / "10_conv_flatten_dense.net"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "in.npz"
    values = np.random.default_rng(0).random((COUNT, 4, 3, 8, 8)) < 0.3
    np.savez_compressed(path, input=values)
    return path


@pytest.fixture(scope="module")
def whole(network: Path, inputs: Path) -> bytes:
    """What one process writes."""
    graph: FixedPointGraph = netx.read(network)
    path = inputs.with_name("whole.npz")
    with np.load(inputs) as file:
        save_recording(path, EventSimulator(graph).run(file["input"]))
    return path.read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A Dask scheduler and two workers, each a process."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("dask")
    about = folder / "scheduler.json"

    def start(module: str, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", "--scheduler-file", str(about),
             "--host", "127.0.0.1", "--no-dashboard", *options],
            cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    scheduler = start("dask_scheduler", "--port", "0")
    workers = [start("dask_worker", "--no-nanny", "--nthreads", "1") for _ in range(2)]
    try:
        deadline = time.monotonic() + 60
        while not about.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield Cluster(address=json.loads(about.read_text())["address"], workers=workers)
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


PROGRAM = """
import os, signal
from pathlib import Path
from neurodeploy import netx
from neurodeploy.simulation.long_runs.engines import Crew
from neurodeploy.simulation.long_runs.long_run import run_samples

def children():
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (folder / "status").read_text(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if "PPid:\\t%d\\n" % os.getpid() in status and b"LokyProcess" in command:
            found.append(int(folder.name))
    return found

def act(done, total):
    if done >= {at}:
        {act}

if __name__ == "__main__":
    done = run_samples(
        netx.read({network!r}), Path({inputs!r}), Path({output!r}),
        crew=Crew({crew}), resume={resume}, progress=act,
    )
    print(done.resumed)
"""


def run_program(
    folder: Path,
    network: Path,
    inputs: Path,
    *,
    crew: str,
    at: int = 2 * COUNT,
    act: str = "pass",
    resume: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run samples in a process of its own, which does something once `at` of them are finished."""
    script = folder / "program.py"
    script.write_text(
        PROGRAM.format(
            network=str(network), inputs=str(inputs), output=str(folder / "out.npz"),
            crew=crew, at=at, act=act, resume=resume,
        )
    )  # fmt: skip
    return subprocess.run(
        [sys.executable, str(script)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def run_command(
    network: Path, inputs: Path, output: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run `neurodeploy simulate` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "neurodeploy", "simulate", str(network), "-i", str(inputs),
         "-o", str(output), *options],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def alive(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


# --- clusters -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dask_cluster_loses_a_worker_and_the_result_is_that_of_one_process(
    network, inputs, whole, cluster: Cluster, tmp_path
) -> None:
    end = run_program(
        tmp_path, network, inputs,
        crew=f"engine='dask', cluster={cluster.address!r}",
        at=1,
        act=f"os.kill({cluster.workers[0].pid}, signal.SIGKILL)",
    )  # fmt: skip
    assert end.returncode == 0, end.stderr
    assert cluster.workers[0].wait(timeout=60) == -signal.SIGKILL
    assert cluster.workers[1].poll() is None
    assert (tmp_path / "out.npz").read_bytes() == whole


@pytest.mark.slow
def test_the_command_runs_on_a_cluster(network, inputs, whole, cluster: Cluster, tmp_path) -> None:
    options = ("--engine", "dask", "--cluster", cluster.address)
    end = run_command(network, inputs, tmp_path / "out.npz", *options)
    assert end.returncode == 0, end.stderr
    assert (tmp_path / "out.npz").read_bytes() == whole


def test_a_cluster_of_one_worker_computes_there(cluster: Cluster) -> None:
    cluster.workers[0].kill()
    cluster.workers[0].wait()
    crew = engines.Crew(engine="dask", cluster=cluster.address)
    with engines.open_pool(crew, "__import__('os').getpid()") as pool:
        assert set(pool.run(eval, [{}, {}])) == {cluster.workers[1].pid}


def test_a_cluster_that_is_not_there_is_said(neurodeploy, network, inputs, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(engines, "WORKERS_WAIT_S", 0.5)
    outcome = neurodeploy(
        "simulate", network, "-i", inputs, "-o", tmp_path / "out.npz",
        "--engine", "dask", "--cluster", "tcp://127.0.0.1:9",
    )  # fmt: skip
    assert outcome.code == 1
    assert "no Dask cluster at tcp://127.0.0.1:9" in outcome.errors[0]
    assert "dask scheduler" in outcome.errors[0]
    assert list(tmp_path.iterdir()) == []


def test_without_ray_it_is_said_how_to_install_it(
    neurodeploy, network, inputs, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    options = ("-i", inputs, "-o", tmp_path / "out.npz", "--engine", "ray")
    outcome = neurodeploy("simulate", network, *options)
    assert outcome.code == 1
    assert "pip install 'neurodeploy[ray]'" in outcome.errors[0]


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A Ray cluster of two processors, started as users do."""
    ray = pytest.importorskip("ray")
    host = ray.util.get_node_ip_address()
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}",
         "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats", "--block"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert head.stdout is not None
        assert any("Ray runtime started" in line for line in head.stdout)
        yield f"{host}:{port}"
    finally:
        head.terminate()
        head.communicate(timeout=120)


@pytest.mark.slow
def test_a_ray_cluster_loses_a_worker_and_the_result_is_that_of_one_process(
    network, inputs, whole, ray_address, tmp_path
) -> None:
    mark = tmp_path / "killed"
    end = run_program(
        tmp_path, network, inputs,
        crew=f"engine='ray', cluster={ray_address!r}",
        at=1,
        act="found = [int(one.parent.name) for one in Path('/proc').glob('[0-9]*/cmdline') "
        "if one.read_bytes().startswith((b'ray::run_piece', b'ray::IDLE'))]; "
        f"mark = Path({str(mark)!r}); "
        "mark.exists() or (mark.write_text(str(len(found))), "
        "[os.kill(each, signal.SIGKILL) for each in found])",
    )  # fmt: skip
    assert end.returncode == 0, end.stderr
    assert int(mark.read_text()) >= 1
    assert (tmp_path / "out.npz").read_bytes() == whole


@pytest.mark.slow
def test_the_command_starts_a_ray_cluster_here(network, inputs, whole, tmp_path) -> None:
    pytest.importorskip("ray")
    options = ("--engine", "ray", "--workers", "2")
    end = run_command(network, inputs, tmp_path / "out.npz", *options)
    assert end.returncode == 0, end.stderr
    assert "ray" not in end.stderr.replace(str(tmp_path), "").lower()
    assert (tmp_path / "out.npz").read_bytes() == whole


def test_a_ray_cluster_that_is_not_there_is_said(neurodeploy, network, inputs, tmp_path) -> None:
    pytest.importorskip("ray")
    outcome = neurodeploy(
        "simulate", network, "-i", inputs, "-o", tmp_path / "out.npz",
        "--engine", "ray", "--cluster", "127.0.0.1:9",
    )  # fmt: skip
    assert outcome.code == 1
    assert "no Ray cluster at 127.0.0.1:9" in outcome.errors[0]
    assert "ray start --head" in outcome.errors[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cluster", "tcp://a:1"), "is for --engine dask or ray"),
        (("--engine", "dask", "--cluster", "tcp://a:1", "--workers", 2), "Leave out --workers"),
    ],
)
def test_crews_that_make_no_sense_are_refused(
    neurodeploy, network, inputs, tmp_path, options, words
) -> None:
    outcome = neurodeploy("simulate", network, "-i", inputs, "-o", tmp_path / "out.npz", *options)
    assert outcome.code == 1
    assert words in outcome.errors[0]


# --- processes of this machine ------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker_process_is_replaced(network, inputs, whole, tmp_path) -> None:
    end = run_program(
        tmp_path, network, inputs, crew="workers=2", at=1,
        act=f"mark = Path({str(tmp_path / 'killed')!r}); "
        "mark.exists() or (mark.touch(), os.kill(children()[0], signal.SIGKILL))",
    )  # fmt: skip
    assert end.returncode == 0, end.stderr
    assert (tmp_path / "killed").exists()
    assert (tmp_path / "out.npz").read_bytes() == whole


@pytest.mark.slow
def test_a_killed_run_loses_no_finished_sample_and_leaves_no_process(
    network, inputs, whole, tmp_path
) -> None:
    end = run_program(
        tmp_path, network, inputs, crew="workers=2", at=12,
        act="print(*children(), flush=True); os.kill(os.getpid(), signal.SIGKILL)",
    )  # fmt: skip
    assert end.returncode == -signal.SIGKILL
    assert not (tmp_path / "out.npz").exists()
    kept = {path: path.stat() for path in parts_folder(tmp_path / "out.npz").glob("part-*")}
    finished = sum(len(range(*map(int, path.stem.split("-")[1:]))) for path in kept)
    assert 12 <= finished < COUNT
    deadline = time.monotonic() + 60
    while any(alive(int(each)) for each in end.stdout.split()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [each for each in end.stdout.split() if alive(int(each))] == []

    again = run_program(
        tmp_path, network, inputs, crew="", resume=True, at=1,
        act=f"assert Path({str(min(kept))!r}).stat().st_mtime_ns == "
        f"{kept[min(kept)].st_mtime_ns}",
    )  # fmt: skip
    assert (again.returncode, again.stdout) == (0, f"{finished}\n"), again.stderr
    assert (tmp_path / "out.npz").read_bytes() == whole


def test_workers_that_always_die_end_the_run(network, inputs, tmp_path, monkeypatch) -> None:
    def lose(*_: object, **__: object) -> Iterator[object]:
        raise engines.WorkerLostError("gone")

    monkeypatch.setattr(engines.WorkerPool, "run", lose)
    crew = engines.Crew(workers=2)
    with pytest.raises(SimulationError, match=r"workers died 3 times .*0 samples are finished"):
        run_samples(netx.read(network), inputs, tmp_path / "out.npz", crew=crew)
