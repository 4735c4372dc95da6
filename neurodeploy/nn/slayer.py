"""Between these blocks and lava-dl: tensor layout and state dictionaries.

SLAYER keeps time last, (N, C, H, W, T) or (N, C, T), and every weight with five axes. Our blocks
keep time first and weights with two or four. The two meet here only, at the ends of a network.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/block/base.py`, `synapse/layer.py`, `axon/delay.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from neurodeploy.errors import CheckpointError, GraphError
from neurodeploy.nn.blocks import (
    Affine,
    Conv,
    Dense,
)
from neurodeploy.nn.neuron import CubaLIF
from neurodeploy.nn.spiking_block import SpikingBlock

WEIGHT_AXES = 5
_FIVE_AXES = frozenset({"synapse.weight", "synapse.weight_g", "synapse.weight_v", "mask"})
_DECAYS = frozenset({"neuron.current_decay", "neuron.voltage_decay"})
_RUNNING_MEAN = "neuron.norm.running_mean"
_LAZY = frozenset({"delay.delay", _RUNNING_MEAN})


def to_time_first(x: Tensor) -> Tensor:
    """Bring SLAYER's (N, C, H, W, T) or (N, C, T) to (T, N, C, H, W) or (T, N, C), contiguous."""
    if x.dim() not in (3, 5):
        raise GraphError(
            f"to_time_first: input of shape {tuple(x.shape)}, (N, C, T) or (N, C, H, W, T) "
            "is required."
        )
    return x.movedim(-1, 0).contiguous()


def from_time_first(x: Tensor) -> Tensor:
    """Bring (T, N, ...) to SLAYER's (N, ..., T), contiguous."""
    return x.movedim(0, -1).contiguous()


class SlayerLayout(nn.Module):
    """A network of ours, of time-first tensors, that takes and gives SLAYER's layout."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """Run on (N, C, H, W, T) or (N, C, T); a count beside the output is passed on."""
        output = self.module(to_time_first(x))
        if isinstance(output, tuple):
            spikes, count = output
            return from_time_first(spikes), count
        spikes_only: Tensor = output
        return from_time_first(spikes_only)


def export_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dictionary that lava-dl loads with `strict=True`.

    Args:
        module: A block, or a `ModuleList`, `Sequential` or other module of blocks; keys carry
            the path of each block, as lava-dl's own would.

    Returns:
        Copies, in SLAYER's names and shapes. What SLAYER shapes at the first forward pass (decays
        by channel, delays, a running mean) has the shape it has here: a lava-dl block can only
        take it when it is in the same state.

    Raises:
        CheckpointError: If something has no counterpart in SLAYER: a bias, a batch norm, another
            neuron than `CubaLIF`, a module that is no block.
    """
    module = _unwrapped(module)
    exported: dict[str, Tensor] = {}
    covered: set[str] = set()
    for prefix, block in _blocks(module):
        own = block.state_dict()
        covered.update(prefix + key for key in own)
        _require_counterparts(prefix, block, own)
        exported.update({prefix + key: _to_slayer(key, value) for key, value in own.items()})
    if strangers := sorted(set(module.state_dict()) - covered):
        raise CheckpointError(
            f"{strangers[0]}: belongs to no SLAYER block. Export the blocks alone."
        )
    return exported


def import_state_dict(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a lava-dl state dictionary; nothing is changed unless every entry fits.

    Entries that SLAYER shapes at its first forward pass are taken in either shape, and our
    block counts as initialised if theirs was.

    Args:
        module: As for `export_state_dict`; changed in place.
        state: Names, shapes and values as lava-dl's `state_dict()` gives them.

    Raises:
        CheckpointError: For a missing or unknown key, or a shape that does not fit.
    """
    module = _unwrapped(module)
    expected = export_state_dict(module)
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    if missing or unknown:
        hint = ""
        if any(key.endswith(("weight_g", "weight_v")) for key in (*missing, *unknown)):
            hint = " Build the block with the same weight_norm as the one that was saved."
        raise CheckpointError(
            f"state dictionary: missing keys {missing}, unknown keys {unknown}.{hint}"
        )
    prepared: list[tuple[SpikingBlock, dict[str, Tensor]]] = []
    for prefix, block in _blocks(module):
        own = block.state_dict()
        entries = {}
        for key, value in own.items():
            found = state[prefix + key]
            required = expected[prefix + key].shape
            if found.shape != required and not _may_reshape(block, key, found):
                raise CheckpointError(
                    f"{prefix + key}: found shape {tuple(found.shape)}, "
                    f"expected {tuple(required)}.{_shape_hint(key)}"
                )
            is_weight = key in _FIVE_AXES
            entries[key] = found.detach().reshape(value.shape) if is_weight else found.detach()
        prepared.append((block, entries))
    for block, entries in prepared:
        block.load_state_dict(entries, strict=True)


def _unwrapped(module: nn.Module) -> nn.Module:
    return module.module if isinstance(module, SlayerLayout) else module


def _blocks(module: nn.Module) -> Iterator[tuple[str, SpikingBlock]]:
    for path, child in module.named_modules():
        if isinstance(child, SpikingBlock):
            yield f"{path}." if path else "", child


def _require_counterparts(prefix: str, block: SpikingBlock, own: Mapping[str, Tensor]) -> None:
    if block.neuron is not None and not isinstance(block.neuron, CubaLIF):
        raise CheckpointError(
            f"{prefix}neuron: {type(block.neuron).__name__} has no counterpart in SLAYER, "
            "CubaLIF has."
        )
    for key in own:
        if key == "synapse.bias" or key.startswith(("batch_norm.", "recurrent_synapse.")):
            raise CheckpointError(f"{prefix}{key}: SLAYER's blocks have no such entry.")


def _to_slayer(key: str, value: Tensor) -> Tensor:
    copy = value.detach().clone()
    if key not in _FIVE_AXES:
        return copy
    return copy.reshape(*copy.shape, *(1,) * (WEIGHT_AXES - copy.dim()))


def _may_reshape(block: SpikingBlock, key: str, found: Tensor) -> bool:
    """Return whether an entry that SLAYER shapes late may take the shape found."""
    is_late = key in _LAZY or (
        key in _DECAYS and isinstance(block.neuron, CubaLIF) and not block.neuron.shared_param
    )
    if not is_late or found.dim() != 1:
        return False
    norm = getattr(block.neuron, "norm", None)
    features = getattr(norm, "num_features", None)
    if key == _RUNNING_MEAN and features not in (None, found.numel()):
        return False
    channels = None if block.shape is None else block.shape[0]
    if channels is None and isinstance(block, Dense | Affine | Conv):
        return found.numel() in (1, block.synapse.shape[0])
    return channels is None or found.numel() == channels


def _shape_hint(key: str) -> str:
    if key in _DECAYS or key in _LAZY:
        return (
            " One value means shared, or not yet drawn: use the same shared_param, and run the "
            "saved block once before saving it."
        )
    return ""
