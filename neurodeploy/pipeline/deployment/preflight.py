"""Find out before training whether the network to be trained can be deployed."""

from __future__ import annotations

import torch

from neurodeploy.chips.limits import check_limits
from neurodeploy.chips.target import Target
from neurodeploy.nn.network import SpikingNetwork, remove_branches
from neurodeploy.passes import choose_scales, lower_residuals, quantize
from neurodeploy.passes.quantization import fit_input
from neurodeploy.pipeline.deployment.lowering import lower
from neurodeploy.recipes.recipe import Architecture, Recipe


def check_deployable(recipe: Recipe, value_range: tuple[int, int]) -> None:
    """Check that the network which a recipe trains has a counterpart on its target.

    A stand-in takes the whole way of deployment but for data: the recipe's network, every
    parameter moved away from its initial value, as training will move them. What depends on the
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
    scales = choose_scales(graph, target, steps=steps, guard_overflow=False)
    fixed = quantize(graph, target, steps=steps, scales=scales)
    check_limits(lower_residuals(fixed, target).graph, target)
