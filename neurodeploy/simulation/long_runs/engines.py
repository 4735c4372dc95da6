"""Engines that compute the pieces of a long run: this process, processes here, Dask or Ray.

Processes here go through joblib. Dask and Ray are asked themselves: joblib runs what is for one
worker of Dask in this process, and gives results of Ray only when all are there.

A worker that dies costs the piece it was computing. Dask and Ray give that to another worker by
themselves; where they give up, and where a process here dies, `WorkerPool.run` raises
`WorkerLostError`, and `long_run` runs the pieces again that are not finished.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from neurodeploy.errors import SimulationError
from neurodeploy.processes.leftovers import mark_process, temporary_folder
from neurodeploy.processes.parents import watch_parent
from neurodeploy.processes.platforms import usable_cores
from neurodeploy.simulation.recording import member_of

if TYPE_CHECKING:
    from distributed import Client

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")
WORKERS_WAIT_S = 30.0
RAY_RETRIES = 3
"""How often Ray gives a task out again whose worker died."""


class Engine(StrEnum):
    """Kinds of workers."""

    LOCAL = "local"
    """This process, or processes on this machine."""
    DASK = "dask"
    """A Dask cluster."""
    RAY = "ray"
    """A Ray cluster."""


class WorkerLostError(Exception):
    """Workers died; the pieces they were computing have to be computed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The workers of a long run.

    Attributes:
        engine: Their kind.
        workers: Processes; None: one for `Engine.LOCAL`, else as many as there are cores here, or
            as the cluster has.
        cluster: Address of a running cluster; None to start one here.

    Example:
        >>> example = nd.load_example()
        >>> crew = nd.Crew(engine="local", workers=1)
        >>> crew.is_here, crew.processes_here
        (True, 1)
        >>> nd.run_samples(example.graph, example.samples, "spikes.npz", crew=crew).resumed
        0
    """

    engine: Engine = Engine.LOCAL
    workers: int | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "engine", member_of(Engine, self.engine, name="engine"))
        if self.engine is Engine.LOCAL and self.cluster is not None:
            raise SimulationError(
                f"simulation: a cluster, {self.cluster}, is for --engine dask or ray."
            )
        if self.cluster is not None and self.workers is not None:
            raise SimulationError(
                "simulation: a running cluster has the workers that it has. Leave out --workers "
                "or --cluster."
            )
        if self.workers is not None and self.workers < 1:
            raise SimulationError(f"simulation: {self.workers} workers, at least 1 is needed.")

    @property
    def is_here(self) -> bool:
        """True if the process that asks computes itself."""
        return self.engine is Engine.LOCAL and self.workers in (None, 1)

    @property
    def processes_here(self) -> int:
        """How many processes compute on this machine; 0 for a cluster elsewhere."""
        if self.cluster is not None:
            return 0
        if self.engine is Engine.LOCAL:
            return self.workers or 1
        return self.workers or usable_cores()


@dataclass(slots=True, eq=False)
class WorkerPool(Generic[Shared]):
    """Computes `size` tasks at once, which all need `shared`; made by `open_pool`.

    Attributes:
        shared: What they need.
        size: How many at once.
        is_here: Whether this process computes them.
    """

    shared: Shared
    size: int = 1
    is_here: bool = False

    def run(
        self,
        function: Callable[[Shared, Task], Result],
        tasks: Iterable[Task],
        *,
        waiting: int = 1,
    ) -> Iterator[Result]:
        """Yield results as they come; tasks are taken as workers become free, and a few ahead.

        Raises:
            WorkerLostError: If workers died in a way that the engine does not mend.
        """
        if self.is_here:
            for task in tasks:
                yield function(self.shared, task)
            return
        from joblib import Parallel, delayed

        results = Parallel(
            n_jobs=self.size,
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch=self.size + waiting,
            max_nbytes=None,
        )(delayed(function)(self.shared, task) for task in tasks)
        with _telling_losses():
            try:
                yield from results
            finally:
                results.close()


_LOSSES = {
    # of loky
    "TerminatedWorkerError", "BrokenProcessPool",
    # of distributed; the first where several workers died of one task
    "KilledWorker", "FutureCancelledError", "FuturesCancelledError", "CancelledError",
    "CommClosedError",
}  # fmt: skip
"""Errors of engines, which need not be installed, that mean that a worker is gone."""


@contextmanager
def _telling_losses() -> Iterator[None]:
    """Make one error of all that mean that a worker is gone."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ in _LOSSES:
            raise WorkerLostError((str(error) or type(error).__name__).splitlines()[0]) from error
        raise


@dataclass(slots=True, eq=False, kw_only=True)
class _DaskPool(WorkerPool[Shared]):
    """Computes tasks on Dask; a task whose worker dies is given to another one."""

    client: Client

    def run(
        self,
        function: Callable[[Shared, Task], Result],
        tasks: Iterable[Task],
        *,
        waiting: int = 1,
    ) -> Iterator[Result]:
        """Yield results, as `WorkerPool.run` does."""
        distributed, left = import_module("distributed"), iter(tasks)
        with _telling_losses():
            shared = self._send_shared()
            running = distributed.as_completed(loop=self.client.loop)
            try:
                while True:
                    for task in islice(left, self.size + waiting - running.count()):
                        running.add(self.client.submit(function, shared, task, pure=False))
                    if running.is_empty():
                        return
                    yield cast("Result", next(running).result())
            finally:
                self.client.cancel(list(running.futures), force=True)  # type: ignore[no-untyped-call]

    def _send_shared(self) -> object:
        """Send what all tasks need to every worker."""
        try:
            return self.client.scatter([self.shared], broadcast=True, hash=False)[0]  # type: ignore[no-untyped-call]
        except TimeoutError as error:
            raise WorkerLostError("no worker is left") from error


class _RayPool(WorkerPool[Shared]):
    """Computes tasks on Ray; a task whose worker dies is given to another one."""

    def run(
        self,
        function: Callable[[Shared, Task], Result],
        tasks: Iterable[Task],
        *,
        waiting: int = 1,
    ) -> Iterator[Result]:
        """Yield results, as `WorkerPool.run` does."""
        ray, left = import_module("ray"), iter(tasks)
        call = ray.remote(max_retries=RAY_RETRIES)(function)
        shared = ray.put(self.shared)
        running: list[object] = []
        try:
            while True:
                for task in islice(left, self.size + waiting - len(running)):
                    running.append(call.remote(shared, task))
                if not running:
                    return
                finished, running = ray.wait(running, num_returns=1)
                yield cast("Result", ray.get(finished[0]))
        except ray.exceptions.RayError as error:
            # An error of the function's own is raised as both; everything else is Ray's.
            if isinstance(error, ray.exceptions.RayTaskError):
                cause = error.cause if isinstance(error.cause, BaseException) else error
                raise cause from error
            raise WorkerLostError(str(error).splitlines()[0]) from error
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _begin(parent: int) -> None:
    """Leave Ctrl-C to the process that started this one, and end with it, however it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch_parent(parent)


@contextmanager
def open_pool(crew: Crew, shared: Shared) -> Iterator[WorkerPool[Shared]]:
    """Start the workers, or connect to them.

    `shared`, which every task needs, is sent to each worker once, or with each task.

    Raises:
        SimulationError: If there are none; the message says how to install or start them.
    """
    if crew.is_here:
        yield WorkerPool(shared, is_here=True)
        return
    with ExitStack() as stack:
        match crew.engine:
            case Engine.LOCAL:
                from joblib import parallel_config  # here: most runs need none of it

                size = crew.workers or 1
                options = {"n_jobs": size, "initializer": _begin, "initargs": (os.getpid(),)}
                mark_process()
                stack.enter_context(parallel_config(backend="loky", **options))
                yield WorkerPool(shared, size)
            case Engine.DASK:
                client = stack.enter_context(_dask_client(crew))
                cores: dict[str, int] = client.ncores()  # type: ignore[no-untyped-call]
                yield _DaskPool(shared, sum(cores.values()), client=client)
            case Engine.RAY:
                yield stack.enter_context(_ray_pool(crew, shared))


@contextmanager
def _dask_client(crew: Crew) -> Iterator[Client]:
    distributed = _package("distributed", crew, "pip install 'neurodeploy[dask]'")
    with ExitStack() as stack:
        # Samples travel with their task: scattered ones would be lost with the worker they are on.
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
        # Dask leaves the folder behind in which those of its workers were.
        folder = str(stack.enter_context(temporary_folder()))
        stack.enter_context(import_module("dask.config").set({"temporary-directory": folder}))
        try:
            cluster: object = crew.cluster
            if cluster is None:
                options = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
                cluster = stack.enter_context(
                    distributed.LocalCluster(n_workers=crew.processes_here, **options)
                )
            client = stack.enter_context(
                distributed.Client(cluster, set_as_default=False, timeout=WORKERS_WAIT_S)
            )
            client.wait_for_workers(1, timeout=WORKERS_WAIT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise SimulationError(
                f"simulation: no Dask cluster at {crew.cluster or 'this machine'} "
                f"({error or type(error).__name__}). Start one: `dask scheduler`, and "
                "`dask worker ADDRESS` on each machine, in an environment with neurodeploy; then "
                "--cluster tcp://HOST:8786."
            ) from error
        yield client


@contextmanager
def _ray_pool(crew: Crew, shared: Shared) -> Iterator[WorkerPool[Shared]]:
    # What later versions do by default: no GPU is hidden from tasks. Without it, Ray warns of that.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = _package("ray", crew, "pip install 'neurodeploy[ray]'")
    is_started = not ray.is_initialized()
    if is_started:
        try:
            if crew.cluster is not None and "://" not in crew.cluster:
                host, _, port = crew.cluster.rpartition(":")
                # Ray itself would try for two minutes.
                socket.create_connection((host, int(port)), timeout=WORKERS_WAIT_S).close()
            ray.init(
                address=crew.cluster or "local",
                num_cpus=None if crew.cluster else crew.processes_here,
                include_dashboard=None if crew.cluster else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (OSError, RuntimeError, ValueError, TimeoutError) as error:
            raise SimulationError(
                f"simulation: no Ray cluster at {crew.cluster or 'this machine'} "
                f"({error.__cause__ or error}). Start one with `ray start --head`, and on other "
                "machines `ray start --address HOST:6379`, in environments with neurodeploy; then "
                "--cluster HOST:6379. If it asks for a token, set RAY_AUTH_MODE here as there."
            ) from error
    try:
        size = max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield _RayPool(shared, size)
    finally:
        if is_started:
            ray.shutdown()


def _package(name: str, crew: Crew, install: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise SimulationError(
            f"simulation: --engine {crew.engine} needs the package '{name.partition('.')[0]}', "
            f"which cannot be imported ({error}). Install it: {install}; or use --engine local."
        ) from error
