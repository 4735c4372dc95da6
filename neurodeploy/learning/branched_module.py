"""Shortcut branches on any torch module, which trains with them in the framework it comes from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from math import prod

import torch
from torch import Tensor, nn

from neurodeploy.errors import TrainingError
from neurodeploy.nn.blocks import GlobalAverageReadout

_SHOWN = 12
"""Names that an error shows of layers that are there."""


class BranchedModule(nn.Module):
    """A module with shortcut branches: it returns what the module returns, and their outputs.

    Each branch is a global average pool and a linear map on what a layer sends. The module itself
    stays as it is: its layers are listened to while it runs. `add_shortcut_branches` makes one.

    Attributes:
        module: The module that was given.
        starts: Paths of the layers that branches start from.
        branches: The maps, in the order of `starts`.

    Source: Guo et al., "Take A Shortcut Back: Mitigating the Gradient Vanishing for Training
    Spiking Neural Networks", NeurIPS 2024, arXiv 2401.04486.

    Example:
        >>> relu = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> branched = nd.add_shortcut_branches(relu, torch.zeros(2, 16), starts=["1"])
        >>> output, branches = branched(torch.ones(2, 16))
        >>> output.shape, [branch.shape for branch in branches]
        (torch.Size([2, 3]), [torch.Size([2, 3])])
        >>> branched.without_branches() is relu
        True
    """

    def __init__(
        self, module: nn.Module, starts: Sequence[str], branches: Sequence[GlobalAverageReadout]
    ) -> None:
        super().__init__()
        self.module = module
        self.starts = tuple(starts)
        self.branches = nn.ModuleList(branches)

    def forward(self, *args: object) -> tuple[object, tuple[Tensor, ...]]:
        """Run the module and its branches.

        Args:
            args: What the module's own forward takes.

        Returns:
            What the module returned, and by branch a tensor of the shape of the module's output.
            This is what it returned, or the first tensor in that.

        Raises:
            TrainingError: If what a layer sends does not fit the module's output.
        """
        result, sent = _run(self.module, self.starts, args)
        output = _first_tensor(result)
        outputs = []
        for start, branch in zip(self.starts, self.branches, strict=True):
            value, axes = _fit(start, sent[start], output)
            before, channels = value.shape[:axes], value.shape[axes]
            read = branch(value.reshape(1, prod(before), channels, -1, 1))
            outputs.append(read.reshape(*before, -1))
        return result, tuple(outputs)

    def without_branches(self) -> nn.Module:
        """Return the module that was given, the very same one."""
        return self.module


def add_shortcut_branches(
    module: nn.Module,
    sample: Tensor | tuple[object, ...],
    *,
    starts: Sequence[str],
    seed: int = 0,
) -> BranchedModule:
    """Add a shortcut branch to each of some layers, to train a module of any framework with.

    Args:
        module: Its output, or the first tensor of it, ends in an axis of classes. Before this are
            the samples, and the steps if the layers see several at once or the module loops over
            them.
        sample: What the module's forward takes: a tensor, or a tuple of arguments. A copy of the
            module runs on it once. The numbers of samples and steps should differ.
        starts: Paths of layers, as `module.named_modules()` has them: populations of neurons, or
            whole blocks.
        seed: Draws the initial weights of the branches.

    Returns:
        A module to call instead; train its parameters, which are those of both. States are reset
        on its `module`.

    Raises:
        TrainingError: If there is no such layer, or what it sends does not fit the output.

    Example:
        >>> relu = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> branched = nd.add_shortcut_branches(relu, torch.zeros(2, 16), starts=["1"])
        >>> output, branches = branched(torch.ones(2, 16))
        >>> weight = nd.branch_weight_at(0, 100, method="evolutionary")
        >>> loss = nd.combine_outputs(output, branches, weight=weight).square().mean()
        >>> nd.remove_branches(branched) is relu  # once it is trained
        True
    """
    for start in starts:
        _require_layer(module, start)
    if not starts or len(set(starts)) < len(starts):
        raise TrainingError(f"starts = {list(starts)}: at least one layer, and each once.")
    args = sample if isinstance(sample, tuple) else (sample,)
    try:
        own = copy.deepcopy(module).eval()
        with torch.no_grad(), torch.random.fork_rng():
            result, sent = _run(own, starts, args)
    except TrainingError:
        raise
    except Exception as error:  # whatever a stranger's forward raises
        raise TrainingError(
            f"{type(module).__name__}: does not run on the sample ({error}). Give what its forward "
            "takes, several arguments as a tuple, and reset states that earlier runs have left."
        ) from error
    output = _first_tensor(result)
    generator = torch.Generator().manual_seed(seed)
    branches = []
    for start in starts:
        value, axes = _fit(start, sent[start], output)
        _refuse_hidden_steps(start, value, output, args)
        channels, classes = value.shape[axes], output.shape[-1]
        branches.append(GlobalAverageReadout(channels, classes, generator=generator).to(value))
    return BranchedModule(module, starts, branches)


def _require_layer(module: nn.Module, start: str) -> None:
    try:
        module.get_submodule(start)
        is_layer = bool(start)
    except AttributeError:
        is_layer = False
    if is_layer:
        return
    known = [name for name, _ in module.named_modules() if name]
    near = get_close_matches(start, known, n=5) or known
    some = ", ".join(near[:_SHOWN]) + (", ..." if len(near) > _SHOWN else "")
    raise TrainingError(f"starts: {type(module).__name__} has no layer '{start}'. There is {some}.")


def _run(
    module: nn.Module, starts: Sequence[str], args: tuple[object, ...]
) -> tuple[object, dict[str, list[Tensor]]]:
    """Run a module; return its result, and what each of the layers sent, one tensor a call."""
    sent: dict[str, list[Tensor]] = {start: [] for start in starts}

    def listener(start: str) -> Callable[[nn.Module, object, object], None]:
        def listen(layer: nn.Module, read: object, result: object) -> None:
            del layer, read
            sent[start].append(_first_tensor(result))

        return listen

    hooks = [module.get_submodule(start).register_forward_hook(listener(start)) for start in starts]
    try:
        return module(*args), sent
    finally:
        for hook in hooks:
            hook.remove()


def _fit(start: str, values: Sequence[Tensor], output: Tensor) -> tuple[Tensor, int]:
    """Return what a layer sent as one tensor, and how many of its axes the output has as well.

    These are (steps, samples) in any order, or (samples,). The next one holds channels.
    """
    before, calls = output.shape[:-1], len(values)
    if calls == 1:
        (value,) = values
        if value.dim() > len(before) and value.shape[: len(before)] == before:
            return value, len(before)
        if len(before) == 2 and value.dim() > 1 and len(value) == prod(before):
            return value.reshape(*before, *value.shape[1:]), 2
    elif calls and len(before) == 2 and len({value.shape for value in values}) == 1:
        for axis in (0, 1):  # a loop over the steps
            if before[axis] == calls and values[0].dim() > 1 and before[1 - axis] == len(values[0]):
                return torch.stack(list(values), axis), 2
    sent = f"{calls} times values of shape {tuple(values[0].shape)}" if calls else "nothing"
    raise TrainingError(
        f"{start}: sends {sent}, which does not fit the module's output of shape "
        f"{tuple(output.shape)}. The output must have a value for each step that a layer sees, or "
        "is called for: take the mean over the steps outside the module, or name another layer."
    )


def _refuse_hidden_steps(
    start: str, value: Tensor, output: Tensor, args: tuple[object, ...]
) -> None:
    """Refuse values (samples, steps, ...) behind an output without steps: no axis is of channels.

    Only of values (steps, samples, ...) do the shapes tell.
    """
    read = next(_tensors(args), output)
    if output.dim() == 2 and read.dim() > 2 and value.shape[:2] == read.shape[:2]:
        raise TrainingError(
            f"{start}: sends values of shape {tuple(value.shape)}, which begins as that of the "
            f"sample, {tuple(read.shape)}: the second axis may be one of steps. Let the module "
            "return a value for each step, or name another layer."
        )


def _first_tensor(result: object) -> Tensor:
    value = next(_tensors(result), None)
    if value is None or value.dim() < 2:
        shape = "no tensor" if value is None else f"a tensor of shape {tuple(value.shape)}"
        raise TrainingError(f"a layer or the module returns {shape}; (samples, ...) is required.")
    return value


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors in arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _tensors(entry)
