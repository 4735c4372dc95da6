"""A spiking network: named blocks in a row, a read-out, and branches while it is trained."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import prod
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neurodeploy.errors import (
    CheckpointError,
    DataError,
    GraphError,
    RecipeError,
    TrainingError,
)
from neurodeploy.nn.blocks import Conv, Dense, GlobalAverageReadout
from neurodeploy.nn.residual import Parts, ResidualBlock
from neurodeploy.nn.spiking_block import SpikingBlock
from neurodeploy.nn.synapse import ConvSynapse, DenseSynapse
from neurodeploy.nn.tensor_files import read_tensors, write_tensors
from neurodeploy.recipes.layouts import count_weights, layout_of, shapes_of
from neurodeploy.recipes.recipe import Architecture, Recipe
from neurodeploy.untrusted.boundary import FileKind, guarded

_MODEL = FileKind("network", ".safetensors", CheckpointError, "Take the file that training wrote.")
FORMAT = "neurodeploy-network"
Bare = TypeVar("Bare", covariant=True)
CAN_COMPILE_BLOCKS = "isolate_recompiles" in inspect.signature(torch.compile).parameters
"""True if torch keeps what it compiles for one block apart from what it compiles for another."""


class ShortcutBranches(nn.Module):
    """Shortcut branches: outputs of inner blocks that carry the loss straight back to them.

    Each is a global average pool and a linear map on a block's spikes. They exist during training
    only: inference, and what is deployed, is the main output alone.

    Args:
        channels: Channels (or neurons) of the block, by its name; one branch each, in order.
        classes: Outputs.
        generator: Draws the initial weights.

    Source: Guo et al., "Take A Shortcut Back: Mitigating the Gradient Vanishing for Training
    Spiking Neural Networks", NeurIPS 2024, arXiv 2401.04486.
    """

    def __init__(
        self, channels: Mapping[str, int], classes: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {
                name: GlobalAverageReadout(count, classes, generator=generator)
                for name, count in channels.items()
            }
        )

    def __len__(self) -> int:
        return len(self.heads)

    def forward(self, outputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return each branch's currents (T, N, classes).

        Args:
            outputs: (T, N, C, H, W) or (T, N, C) by block: spikes; currents of a pre-activation
                block.
        """
        return tuple(head(outputs[name]) for name, head in self.heads.items())


class SpikingNetwork(nn.Module):
    """Blocks in a row, then a linear read-out of currents, one a class.

    Every sample starts from rest. Inputs are integers; the first block sees `input_scale` times
    that, or, with an `input_mean` in the architecture, the integers normalized by channel. The
    class scores are the mean of the output over time.

    Args:
        architecture: What to build.
        seed: Draws the initial weights.

    Attributes:
        blocks: By name, in order.
        is_recomputing: Whether blocks run again in the backward pass instead of keeping what
            they computed; False at first. Outputs and gradients are the same to the bit.
        readout: `DenseSynapse` on flattened spikes, or `GlobalAverageReadout`.
        branches: None for a network without.
        input_mean: (C, 1, 1) float32, of each channel; empty for none, as `input_deviation`.

    Example:
        >>> network = nd.SpikingNetwork.from_recipe(nd.Recipe.load("digits"))
        >>> images = nd.load_data(nd.Recipe.load("digits"))[2].windows(network.steps)[:2]
        >>> network(torch.from_numpy(images)).shape  # (N, T, classes)
        torch.Size([2, 4, 10])
        >>> list(network.blocks)
        ['conv1', 'conv2', 'conv3', 'conv4']
    """

    input_mean: Tensor
    input_deviation: Tensor

    def __init__(self, architecture: Architecture, *, seed: int = 0) -> None:
        super().__init__()
        self.architecture = architecture
        self.is_recomputing = False
        generator = torch.Generator().manual_seed(seed)
        layout = layout_of(architecture.network)
        shapes = shapes_of(layout, architecture.shape, where="network")
        parts = Parts(
            neuron=architecture.neuron,
            norm=architecture.network.norm,
            steps=architecture.network.steps,
            generator=generator,
        )
        shape = architecture.shape
        # Part of the architecture, so not of the stored weights.
        for name in ("input_mean", "input_deviation"):
            values = torch.tensor(getattr(architecture, name), dtype=torch.float32)
            self.register_buffer(name, values.view(-1, 1, 1), persistent=False)
        self.blocks = nn.ModuleDict()
        for layer in layout.layers:
            self.blocks[layer.name] = parts.make_block(layer, shape)
            shape = shapes[layer.name]
        if architecture.network.initial_weights == "kaiming":
            _draw_kaiming(self.blocks, generator)
        self.readout: DenseSynapse | GlobalAverageReadout = (
            GlobalAverageReadout(shape[0], architecture.classes, generator=generator)
            if layout.readout == "gap_linear"
            else DenseSynapse(prod(shape), architecture.classes, bias=True, generator=generator)
        )
        # Last, so that the other weights are those of the same network without branches.
        self.branches = (
            ShortcutBranches(
                {name: shapes[name][0] for name in architecture.branches},
                architecture.classes,
                generator=generator,
            )
            if architecture.branches
            else None
        )

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> SpikingNetwork:
        """Build the recipe's network with initial weights drawn by the recipe's seed.

        Whether it keeps activations while it is trained is the recipe's choice as well:
        `checkpoint_activations` of its [training].
        """
        network = cls(Architecture.of(recipe), seed=recipe.recipe.seed)
        network.is_recomputing = recipe.training.checkpoint_activations
        return network

    def compile_blocks(self, *, backend: str | Callable[..., object] = "inductor") -> None:
        """Let torch.compile translate each block at its next call, in place.

        Compiled blocks use torch operations throughout, neither the loops of `nn.functional` nor
        its products of spikes as bits. Spikes and gradients are equal up to rounding.

        Args:
            backend: Of torch.compile; "inductor" needs a C++ compiler on the machine.

        Raises:
            TrainingError: If torch is too old.
        """
        if not CAN_COMPILE_BLOCKS:
            raise TrainingError(
                f"torch {torch.__version__}: it compiles eight shapes of all blocks together, then "
                "no more. Use torch 2.14 or newer, or training.compile = false."
            )
        for block in self.blocks.values():
            # Blocks share the code of `forward`. Taken together, their shapes would exceed torch's
            # limit of recompilations, and differ in so many sizes that torch would make them
            # symbols, which the inductor cannot sort strides by.
            block.compile(backend=backend, dynamic=False, isolate_recompiles=True)

    def uncompile_blocks(self) -> None:
        """Undo `compile_blocks`."""
        for block in self.blocks.values():
            block._compiled_call_impl = None  # torch has no public opposite of Module.compile

    @property
    def steps(self) -> int:
        """T."""
        return self.architecture.network.steps

    @property
    def input_scale(self) -> float:
        """Float value of one integer input unit; 1 where mean and deviation stand in its place."""
        return 1.0 if self.architecture.input_mean else float(2.0**-self.architecture.input_bits)

    @property
    def largest_input(self) -> int:
        """Largest magnitude of an integer input."""
        return int(2**self.architecture.input_bits)

    # --- running --------------------------------------------------------------------------

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the main output.

        Args:
            inputs: Integers of any dtype: (N, T, *shape), or (N, *shape) for images that stay
                the same in every step; both give the same numbers, the second faster.

        Returns:
            (N, T, classes) float32, what the read-out receives in each step.

        Raises:
            DataError: If the shape does not fit.
        """
        return self._run(inputs)[0].transpose(0, 1)

    def forward_with_branches(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the main output, and that of each branch, all (N, T, classes).

        Example:
            >>> network = nd.SpikingNetwork.from_recipe(nd.Recipe.load("digits"))
            >>> output, branches = network.forward_with_branches(torch.zeros(2, 4, 1, 8, 8))
            >>> output.shape, len(branches)
            (torch.Size([2, 4, 10]), 2)
        """
        main, outputs, _ = self._run(inputs, keep=self.architecture.branches)
        branches = () if self.branches is None else self.branches(outputs)
        return main.transpose(0, 1), tuple(branch.transpose(0, 1) for branch in branches)

    def forward_with_spikes(self, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the main output, and the spikes of each layer of neurons, (N, T, ...).

        A layer has the name of its block; inner layers of a residual block have their own behind
        a dot, `stage1_block1.conv1`.

        Example:
            >>> network = nd.SpikingNetwork.from_recipe(nd.Recipe.load("digits"))
            >>> _, spikes = network.forward_with_spikes(torch.zeros(2, 4, 1, 8, 8))
            >>> {name: tuple(values.shape) for name, values in list(spikes.items())[:2]}
            {'conv1': (2, 4, 16, 8, 8), 'conv2': (2, 4, 32, 8, 8)}
        """
        main, _, spikes = self._run(inputs, has_spikes=True)
        return main.transpose(0, 1), {
            name: values.transpose(0, 1) for name, values in spikes.items()
        }

    def _run(
        self, inputs: Tensor, *, keep: Collection[str] = (), has_spikes: bool = False
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Run time first: currents, outputs of blocks in `keep`, spikes of all layers if wanted."""
        outputs: dict[str, Tensor] = {}
        spikes: dict[str, Tensor] = {}
        values: Tensor | None = None
        for name, block in self.blocks.items():
            if values is None:
                assert isinstance(block, Conv | Dense)  # `shapes_of` allows no other
                values = self._enter(block, inputs)
            elif has_spikes and isinstance(block, ResidualBlock):
                values, inner = block.forward_with_spikes(values)
                spikes.update({f"{name}.{key}" if key else name: x for key, x in inner.items()})
            else:
                values = self._pass(
                    block, values.flatten(2) if isinstance(block, Dense) else values
                )
            assert values is not None
            if has_spikes and isinstance(block, SpikingBlock):
                spikes[name] = values
            if name in keep:
                outputs[name] = values
        assert values is not None  # an architecture has at least one layer
        if isinstance(self.readout, DenseSynapse):
            values = values.flatten(2)
        return self.readout(values), outputs, spikes

    def _pass(self, block: nn.Module, values: Tensor) -> Tensor:
        if self.is_recomputing and self.training and torch.is_grad_enabled():
            return recomputed(block, values)
        return _checked(block(values))

    def _enter(self, block: Conv | Dense, inputs: Tensor) -> Tensor:
        """Run the first block on the network's input."""
        shape, steps = self.architecture.shape, self.steps
        found = tuple(inputs.shape[1:])
        if found not in (shape, (steps, *shape)):
            raise DataError(
                f"network input: shape {tuple(inputs.shape)}, (samples, {_listed(shape)}) or "
                f"(samples, {steps}, {_listed(shape)}) is required."
            )
        x = inputs.to(torch.float32)
        x = (
            (x - self.input_mean) / self.input_deviation
            if self.architecture.input_mean
            else x * self.input_scale
        )
        x = x.unsqueeze(0) if found == shape else x.transpose(0, 1)
        if isinstance(block, Dense):
            x = x.flatten(2)
        if found != shape:
            return _checked(block(x))
        # A static image: its weighted sums are the same in every step, so they are made once.
        return block.fire(block.synapse(x), steps=steps)

    # --- other forms ----------------------------------------------------------------------

    def without_branches(self) -> SpikingNetwork:
        """Return a copy that has no branches; see `remove_branches`."""
        bare = copy.deepcopy(self)
        bare.branches = None
        bare.architecture = dataclasses.replace(self.architecture, branches=())
        return bare

    def save(self, path: Path | str) -> None:
        """Write weights and architecture into one file, whole or not at all.

        Raises:
            OutputError: If it cannot be written; an older file stays as it was.

        Example:
            >>> recipe = nd.Recipe.load("digits")
            >>> nd.SpikingNetwork.from_recipe(recipe).save("model.safetensors")
            >>> nd.SpikingNetwork.load("model.safetensors", recipe=recipe).steps
            4
        """
        metadata: dict[str, object] = {"architecture": self.architecture.to_dict()}
        write_tensors(path, self.state_dict(), kind=FORMAT, metadata=metadata)

    @classmethod
    def load(cls, path: Path | str, *, recipe: Recipe | None = None) -> SpikingNetwork:
        """Read what `save` wrote.

        Args:
            path: The file.
            recipe: If given, the one that the network must come from; branches may be missing.

        Returns:
            The network in evaluation mode.

        Raises:
            CheckpointError: If the file is missing, damaged, or of another recipe's network.
        """
        tensors, metadata = read_tensors(path, kind=FORMAT)
        try:
            table = metadata.get("architecture")
            architecture = Architecture.from_dict(
                table if isinstance(table, dict) else {}, where="architecture"
            )
        except RecipeError as error:
            raise CheckpointError(f"{path}: damaged ({error})") from error
        if recipe is not None:
            _require_same(architecture, Architecture.of(recipe), path=path)
        layout = layout_of(architecture.network)
        shapes = shapes_of(layout, architecture.shape, where=str(path))
        needed = count_weights(layout, architecture.shape, shapes, architecture.classes)
        stored = sum(tensor.numel() for tensor in tensors.values())
        if needed > stored:  # before memory is taken for them
            raise CheckpointError(
                f"{path}: its architecture has {needed:,} weights, of which the file holds "
                f"{stored:,}. {_MODEL.rule}"
            )
        try:
            network = cls(architecture)
        except GraphError as error:  # parameters that no recipe of ours would have kept
            raise CheckpointError(f"{path}: damaged ({error})") from error
        with guarded(f"{path}: its weights", _MODEL):
            network.load_state_dict(tensors)
        return network.eval()


class HasBranches(Protocol[Bare]):
    """A network whose shortcut branches can be taken off."""

    def without_branches(self) -> Bare:
        """Return the network without branches."""


def remove_branches(network: HasBranches[Bare]) -> Bare:
    """Return a network without branches; its main output is the same to the bit.

    Of a `SpikingNetwork` it is a copy; of a `BranchedModule` the module that it was made from.

    Example:
        >>> network = nd.SpikingNetwork.from_recipe(nd.Recipe.load("digits"))
        >>> len(network.branches), nd.remove_branches(network).branches is None
        (2, True)
    """
    return network.without_branches()


def recomputed(module: nn.Module, values: Tensor) -> Tensor:
    """Return module(values), keeping only `values` for the backward pass.

    The module runs once more in the backward pass, so the gradients are those of an ordinary call
    to the bit, if it depends on nothing but its argument, parameters and buffers. Buffers, such as
    running statistics, change in the first run only.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _buffers_kept(module)

    result: Tensor = checkpoint(
        module,
        values,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=contexts,
    )
    return result


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Put the module's buffers back to their values at the end."""
    before = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, values in before:
            # Past autograd's count of changes: the graph does not depend on these values.
            buffer.data.copy_(values)


def _draw_kaiming(blocks: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of all convolutions again.

    Source: torchvision/models/resnet.py:ResNet.__init__, after He et al., "Delving Deep into
    Rectifiers", ICCV 2015.
    """
    for module in blocks.modules():
        if isinstance(module, ConvSynapse):
            fan_out = module.weight.numel() // (module.in_channels // module.groups)
            with torch.no_grad():
                module.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)


def _checked(output: object) -> Tensor:
    assert isinstance(output, Tensor)  # blocks made here do not log counts
    return output


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _require_same(found: Architecture, wanted: Architecture, *, path: Path | str) -> None:
    for field in dataclasses.fields(Architecture):
        values = getattr(found, field.name), getattr(wanted, field.name)
        if field.name == "branches" and not found.branches:
            continue
        if values[0] != values[1]:
            raise CheckpointError(
                f"{path}: a network of another recipe: {field.name} is {values[0]}, the recipe "
                f"has {values[1]}."
            )
