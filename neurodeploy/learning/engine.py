"""Processes, devices and precision of a training: Lightning Fabric over torch.distributed.

A `TrainingEngine` is one process's view of all of them. Started by hand it is one process;
`torchrun` and SLURM are recognised by their environment variables; with `devices` above one on one
node Fabric itself starts the other processes, which run the same command again.

Only process 0 writes files and speaks. Weights, statistics of batch norm and the order of the
samples are the same in all, so that a batch spread over processes is the batch of one process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeVar, cast, get_args

import torch
from torch import Tensor, distributed, nn

from neurodeploy.errors import NeurodeployError, TrainingError
from neurodeploy.processes.parents import STARTER, watch_starter

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.wrappers import _FabricModule

Accelerator = Literal["auto", "cpu", "gpu"]
Strategy = Literal["auto", "ddp"]
Precision = Literal["32", "bf16-mixed", "16-mixed"]
T = TypeVar("T")

_FORWARDS = ("forward_with_branches", "forward_with_spikes")
"""Methods beside `forward` that compute: Fabric must know them to exchange their gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Hardware that a training may use; no part of a recipe.

    Attributes:
        accelerator: "auto" takes GPUs where torch sees any.
        devices: Processes on each node; each GPU process has one GPU.
        nodes: Machines.
        strategy: "ddp": every process holds the whole network. "auto": that for more than one.
        precision: "32", or the type of convolutions under autocast; neurons and batch norm
            always compute in float32.
        timeout: Seconds after which a process that waits for another gives up.
    """

    accelerator: Accelerator = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Strategy = "auto"
    precision: Precision = "32"
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        for name, value in (("devices", self.devices), ("nodes", self.nodes)):
            if value < 1:
                raise TrainingError(f"{name} = {value}, at least 1 is required.")
        gpus = torch.cuda.device_count()
        if self.strategy not in get_args(Strategy):
            allowed = ", ".join(map(repr, get_args(Strategy)))
            raise TrainingError(f"strategy = {self.strategy!r}, allowed: {allowed}.")
        if self.kind == "cpu" and self.precision == "16-mixed":
            raise TrainingError(
                "precision = '16-mixed' on the CPU: float16 needs a GPU. Use 'bf16-mixed' or '32'."
            )
        if self.kind == "gpu" and gpus < self.devices:
            raise TrainingError(
                f"devices = {self.devices}: torch sees {gpus} GPUs. Use fewer devices, or "
                "accelerator 'cpu'."
            )

    @property
    def kind(self) -> Literal["cpu", "gpu"]:
        """The accelerator, "auto" resolved."""
        if self.accelerator == "auto":
            return "gpu" if torch.cuda.is_available() else "cpu"
        return self.accelerator


class TrainingEngine:
    """This process among all that train together: number `rank` of `count`.

    Raises:
        TrainingError: If the processes cannot be started as asked.
    """

    def __init__(self, hardware: Hardware | None = None) -> None:
        self.hardware = hardware or Hardware()
        self._fabric = _start(self.hardware)
        self.rank = int(self._fabric.global_rank)
        self.count = int(self._fabric.world_size)

    @property
    def is_first(self) -> bool:
        """True if this process writes files and messages."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self._fabric.device

    def seed(self, seed: int) -> None:
        """Seed torch's global generator, differently in each process."""
        torch.manual_seed(seed + self.rank)

    def prepare(
        self,
        network: nn.Module,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        *,
        has_idle_parameters: bool,
    ) -> Prepared:
        """Bring a network to its device and join it with the others' copies.

        Args:
            network: Trained in place.
            make_optimizer: Called with it.
            has_idle_parameters: Whether some iteration leaves parameters without a gradient.
        """
        if self.count > 1:
            # Fabric takes these when the strategy is made, before the network is known.
            # Batch norm's buffers are equal in all processes and need not be sent.
            cast("DDPStrategy", self._fabric.strategy)._ddp_kwargs.update(
                find_unused_parameters=has_idle_parameters, broadcast_buffers=False
            )
        raw = make_optimizer(network)
        with _quiet():
            module, optimizer = self._fabric.setup(network, raw)
        for name in _FORWARDS:
            if hasattr(network, name):
                module.mark_forward_method(name)
        return Prepared(
            fabric=self._fabric,
            module=module,
            optimizer=cast("torch.optim.Optimizer", optimizer),
            raw_optimizer=raw,
        )

    def to_device(self, values: Tensor) -> Tensor:
        """Bring a tensor to where the network is."""
        return values.to(self._fabric.device, non_blocking=True)

    def sum(self, values: Tensor) -> Tensor:
        """Add up a tensor over all processes."""
        if self.count == 1:
            return values
        summed = self.to_device(values.clone())
        distributed.all_reduce(summed)
        return summed.to(values.device)

    def gather(self, values: Tensor) -> Tensor:
        """Return every process's tensor, stacked: (processes, ...)."""
        if self.count == 1:
            return values.unsqueeze(0)
        parts = [torch.empty_like(self.to_device(values)) for _ in range(self.count)]
        distributed.all_gather(parts, self.to_device(values))
        return torch.stack(parts).to(values.device)

    def collect(self, value: T) -> list[T]:
        """Return every process's value."""
        if self.count == 1:
            return [value]
        values = [value] * self.count
        distributed.all_gather_object(values, value)
        return values

    def share(self, value: T) -> T:
        """Return process 0's value."""
        if self.count == 1:
            return value
        shared: T = self._fabric.broadcast(value)
        return shared

    def first(self, action: Callable[[], None]) -> None:
        """Let process 0 do something; its `NeurodeployError` is everyone's."""
        error: NeurodeployError | None = None
        if self.is_first:
            try:
                action()
            except NeurodeployError as found:
                error = found
        error = self.share(error)
        if error is not None:
            raise error

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Turn the failure of another process into a `TrainingError` that says so."""
        try:
            yield
        except RuntimeError as error:
            if not self._is_lost(error):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        else:
            return
        raise TrainingError(
            f"process {self.rank} of {self.count}: another process ended or does not answer "
            f"({reason}). The checkpoint of the last whole epoch is kept; go on with --resume."
        )

    def _is_lost(self, error: RuntimeError) -> bool:
        """Return whether an exchange failed; gloo and NCCL have no class of errors for all."""
        if isinstance(error, distributed.DistError):
            return True
        if self.count == 1 or isinstance(error, NeurodeployError):
            return False
        words = ("gloo", "nccl", "connection", "timed out", "peer")
        return any(word in str(error).lower() for word in words)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A network and its optimizer, as all processes share them.

    Attributes:
        module: The network with what joins it to the others around it.
        optimizer: Steps at the precision asked for.
        raw_optimizer: The same as torch made it, whose state is stored.
    """

    fabric: Fabric
    module: nn.Module
    optimizer: torch.optim.Optimizer
    raw_optimizer: torch.optim.Optimizer

    def collecting(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Return the context of one part of a batch: only the last exchanges gradients."""
        if self.fabric.world_size == 1 or is_last:
            return contextlib.nullcontext()
        context: AbstractContextManager[None] = self.fabric.no_backward_sync(
            cast("_FabricModule", self.module)
        )
        return context

    def scaler_state(self) -> dict[str, float]:
        """Return the loss scaling of "16-mixed"; empty for other precisions."""
        state = self.fabric.strategy.precision.state_dict()
        return {key: value for key, value in state.items() if isinstance(value, int | float)}

    def restore_scaler(self, state: dict[str, float]) -> None:
        """Take up what `scaler_state` gave."""
        if state:
            self.fabric.strategy.precision.load_state_dict(state)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the tensors of the optimizer by "parameter.name"."""
        return {
            f"{parameter}.{name}": tensor
            for parameter, values in self.raw_optimizer.state_dict()["state"].items()
            for name, tensor in values.items()
            if isinstance(tensor, Tensor)
        }

    def restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `optimizer_state` gave; any error if it does not fit."""
        state: dict[int, dict[str, Tensor]] = {}
        learned = [one for group in self.raw_optimizer.param_groups for one in group["params"]]
        for name, tensor in tensors.items():
            parameter, key = name.rsplit(".", 1)
            if tensor.ndim and tensor.shape != learned[int(parameter)].shape:
                raise ValueError(f"optimizer.{name} has shape {tuple(tensor.shape)}")
            state.setdefault(int(parameter), {})[key] = tensor
        groups = self.raw_optimizer.state_dict()["param_groups"]
        self.raw_optimizer.load_state_dict({"state": state, "param_groups": groups})


def _start(hardware: Hardware) -> Fabric:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.strategy import Strategy as FabricStrategy

    watch_starter()
    timeout = timedelta(seconds=hardware.timeout)
    strategy: FabricStrategy | str = "auto"
    if hardware.strategy == "ddp" or hardware.devices * hardware.nodes > 1:
        strategy = DDPStrategy(timeout=timeout)
    try:
        with _quiet():
            fabric = Fabric(
                accelerator="cuda" if hardware.kind == "gpu" else "cpu",
                devices=hardware.devices,
                num_nodes=hardware.nodes,
                strategy=strategy,
                precision=hardware.precision,
            )
            os.environ[STARTER] = str(os.getpid())
            fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"processes: cannot be started ({error}).") from error
    finally:
        os.environ.pop(STARTER, None)
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if found != fabric.world_size:
        raise TrainingError(
            f"processes: the launcher started {found}, devices = {hardware.devices} and nodes = "
            f"{hardware.nodes} make {hardware.devices * hardware.nodes}. Say the same to both."
        )
    return fabric


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out Fabric's hints about what it found and started."""
    fabric_logger = logging.getLogger("lightning_fabric")
    level = fabric_logger.level
    fabric_logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning_fabric.*")
            yield
    finally:
        fabric_logger.setLevel(level)
