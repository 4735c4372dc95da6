"""Lower a network to the float graph that is quantized; check early that it can be deployed."""

from __future__ import annotations

import dataclasses
from math import prod

import numpy as np
import numpy.typing as npt
import torch

from neurodeploy.chips.limits import check_limits
from neurodeploy.chips.target import Target
from neurodeploy.ir.float_layers import Conv, Dense, Layer, is_neuron
from neurodeploy.ir.graphs import FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import FixedConv, FixedDense
from neurodeploy.nn.network import SpikingNetwork, remove_branches
from neurodeploy.nn.tracing import trace
from neurodeploy.passes import (
    choose_scales,
    fold_average_pool,
    fold_batchnorm,
    fold_global_average_pool,
    fold_normalization,
    lower_current_biases,
    lower_max_pool,
    lower_residuals,
    merge_groups,
    prune_channels,
    prune_weights,
    quantize,
    run_passes,
)
from neurodeploy.passes.calibration import fit_input
from neurodeploy.recipes.recipe import Architecture, Recipe
from neurodeploy.recipes.training_sections import PruningSection


def lower(network: SpikingNetwork, *, pruning: PruningSection | None = None) -> Graph:
    """Trace a trained network without branches, prune it, and fold the layers that the chip lacks.

    Biases that pass through a decaying current stay: `lower_current_biases` comes next.

    Raises:
        TraceError: If the network holds something that has no counterpart.
        GraphError: If something cannot be folded.
        QuantizationError: If it cannot be pruned as asked.

    Example:
        >>> model, _ = nd.pipeline.load_model("runs/digits-1")
        >>> [name for name in nd.pipeline.lower(model).nodes][:3]  # batch norm is folded
        ['input', 'conv1.synapse', 'conv1']
    """
    return fold_layers(prune(network, pruning=pruning))


def fold_layers(graph: Graph) -> Graph:
    """Turn pools, groups that the chip lacks and the input's normalization into weights and layers.

    Errors are those of `lower`.
    """
    return run_passes(
        graph,
        merge_groups,
        lower_max_pool,
        fold_global_average_pool,
        fold_average_pool,
        fold_normalization,
    )


def prune(network: SpikingNetwork, *, pruning: PruningSection | None = None) -> Graph:
    """Trace a network, fold its batch norm and prune it; pools and groups stay as trained.

    Errors are those of `lower`.
    """
    graph = run_passes(trace(network), fold_batchnorm)
    if pruning is None:
        return graph
    if pruning.channels:
        graph = run_passes(graph, lambda g: prune_channels(g, pruning.channels))
    if pruning.is_one_shot and (pruning.sparsity or pruning.pattern):
        graph = run_passes(
            graph,
            lambda g: prune_weights(
                g, sparsity=pruning.sparsity, scope=pruning.scope, pattern=pruning.pattern
            ),
        )
    return graph


def make_twin(
    trained: Graph, lowered: Graph, deployed: FixedPointGraph, *, folded: Graph | None = None
) -> Graph:
    """Return the ReLU twin's float network: as trained, without the weights that deployment zeroed.

    A spiking network does no operation for a weight that is zero in the deployed integers, so the
    twin may skip it as well.

    Args:
        trained: From `prune`.
        lowered: The same network with pools and groups folded into weights, as quantized.
        deployed: Its integers, skip connections in place.
        folded: `lowered` without channels that carry biases, which the twin does not have; None
            if it has none.
    """
    folded = lowered if folded is None else folded
    changed: dict[str, Layer] = {}
    for layer in deployed:
        nodes = lowered.sources(layer.name)
        for node, connection in zip(nodes, layer.connections, strict=True):
            before, synapse = trained.nodes.get(node), connection.synapse
            own = folded.nodes.get(node)
            if (
                isinstance(before, Conv | Dense)
                and isinstance(own, Conv | Dense)
                and isinstance(synapse, FixedConv | FixedDense)
            ):
                kept = _kept_weights(before, own, synapse)
                changed[node] = dataclasses.replace(before, weight=before.weight * kept)
    return trained.replace_nodes(changed=changed)


def _kept_weights(
    before: Conv | Dense, own: Conv | Dense, synapse: FixedConv | FixedDense
) -> npt.NDArray[np.bool_]:
    """Return which weights of a layer as trained are other than zero in its deployed form.

    `own` is the layer as quantized, but for weights to and from channels that carry biases.

    Folding a pool into a convolution repeats each weight over the window: the weight is zero if all
    of its copies are. Of merged groups, windows that overlap and dense layers behind a pool, only
    the zeros before quantization are known: fewer than the deployed ones.
    """
    weight = before.weight
    stored = synapse.weight if isinstance(synapse, FixedConv) else synapse.effective.mantissa
    if isinstance(own, Conv) and isinstance(synapse, FixedConv) and own.groups != synapse.groups:
        return np.asarray(weight != 0)
    stored = stored[: own.weight.shape[0], : own.weight.shape[1]]
    if stored.shape == weight.shape:
        return np.asarray(stored != 0)
    copies = [after // size for after, size in zip(stored.shape, weight.shape, strict=True)]
    is_repeated = isinstance(before, Conv) and copies[:2] == [1, 1]
    if not is_repeated or any(s % n for s, n in zip(stored.shape, weight.shape, strict=True)):
        return np.asarray(weight != 0)
    rows, columns = weight.shape[2:]
    tiles = stored.reshape(*weight.shape[:2], rows, copies[2], columns, copies[3])
    return np.asarray((tiles != 0).any(axis=(3, 5)))


def count_neurons(graph: Graph) -> int:
    """Count the neurons of a float graph."""
    shapes = graph.shapes()
    return sum(prod(shapes[name]) for name, layer in graph.nodes.items() if is_neuron(layer))


def check_deployable(recipe: Recipe, value_range: tuple[int, int]) -> None:
    """Check before training that the recipe's network has a counterpart on its target.

    A stand-in takes the whole way of deployment but for data: the recipe's network, every
    parameter moved away from its initial value, as training will move them. Effects of the
    trained values themselves, such as a layer that goes silent, cannot be foreseen.

    Args:
        recipe: Network, pruning and target.
        value_range: Smallest and largest value of the data.

    Raises:
        TargetError: If there is no such target.
        TraceError: If a part of the network has no counterpart: spike-element-wise residual
            blocks, temporal batch norm of several steps.
        GraphError: If a layer cannot be folded.
        QuantizationError: If integers cannot express it, or a skip connection cannot be relayed.
        TargetLimitError: With every limit of the target that it exceeds.
    """
    target = Target.load(recipe.quantization.target)
    if recipe.quantization.weight_bits != 8:
        target = target.with_weight_bits(recipe.quantization.weight_bits)
    network = remove_branches(SpikingNetwork(Architecture.of(recipe), seed=recipe.recipe.seed))
    network.eval()
    generator = torch.Generator().manual_seed(recipe.recipe.seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:  # decays that are not learned stay as they are
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    graph = fit_input(lower(network, pruning=recipe.pruning), *value_range)
    steps = recipe.network.steps
    graph = lower_current_biases(graph, steps=steps).graph
    scales = choose_scales(graph, target, steps=steps, guard_overflow=False)
    fixed = quantize(graph, target, steps=steps, scales=scales)
    check_limits(lower_residuals(fixed, target).graph, target)
