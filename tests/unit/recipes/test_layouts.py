from __future__ import annotations

from collections.abc import Mapping

import pytest

from neurodeploy.errors import RecipeError
from neurodeploy.recipes.layouts import (
    Layout,
    count_weights as weights_of,
    layout_of,
    shapes_of,
)
from neurodeploy.recipes.network_sections import ConvLayer, ResidualLayer
from neurodeploy.recipes.recipe import Architecture

NEURON: dict[str, object] = {"tau": 0.25, "threshold": 0.5}


def layout(shape: tuple[int, ...] = (3, 32, 32), **network: object) -> Layout:
    table: Mapping[str, object] = {
        "shape": list(shape),
        "classes": 10,
        "input_bits": 0,
        "network": {"steps": 2, **network},
        "neuron": NEURON,
    }
    return layout_of(Architecture.from_dict(table, where="test").network)


def count_weights(found: Layout) -> int:
    """Layers with weights on the longest path, the read-out included: the depth of a name."""
    depth = {"conv": 1, "dense": 1, "residual": 2}
    return 1 + sum(depth.get(layer.type, 0) for layer in found.layers)


@pytest.mark.parametrize(
    ("network", "depth"),
    [
        ({"architecture": "resnet18"}, 18),
        ({"architecture": "resnet19"}, 19),
        ({"architecture": "resnet20"}, 20),
        ({"architecture": "resnet20m"}, 20),
        ({"architecture": "resnet34"}, 34),
        ({"architecture": "vgg11"}, 9),
        ({"architecture": "vgg11", "hidden": [4096, 4096]}, 11),
        ({"architecture": "vgg16", "hidden": [4096, 4096]}, 16),
        ({"architecture": "plain14"}, 14),
        ({"architecture": "plain20"}, 20),
        ({"architecture": "plain", "blocks": [2, 2, 2], "channels": 8}, 14),
        ({"architecture": "residual", "blocks": [3, 3, 3], "channels": 8}, 20),
        ({"architecture": "residual", "blocks": [5, 5, 6], "channels": 8}, 34),
        ({"architecture": "cifarnet"}, 8),
        ({"architecture": "mlp", "hidden": [5, 4]}, 3),
    ],
)
def test_depth_is_that_of_the_name(network: dict[str, object], depth: int) -> None:
    assert count_weights(layout(**network)) == depth


def test_stages_double_channels_and_halve_images() -> None:
    found = layout(architecture="residual", blocks=[1, 2, 1], channels=8)
    shapes = shapes_of(found, (3, 32, 32), where="test")
    assert shapes == {
        "stem": (8, 32, 32),
        "stage1_block1": (8, 32, 32),
        "stage2_block1": (16, 16, 16),
        "stage2_block2": (16, 16, 16),
        "stage3_block1": (32, 8, 8),
    }


def test_odd_sizes_round_up_as_the_convolution_does() -> None:
    found = layout((2, 7, 7), architecture="residual", blocks=[1, 1], channels=4)
    assert shapes_of(found, (2, 7, 7), where="test")["stage2_block1"] == (4 * 2, 4, 4)


def test_imagenet_stem_quarters_the_image() -> None:
    found = layout((3, 224, 224), architecture="resnet18", stem="imagenet")
    shapes = shapes_of(found, (3, 224, 224), where="test")
    assert shapes["stem"] == (64, 112, 112)
    assert shapes["stem_pool"] == (64, 56, 56)
    assert shapes["stage4_block2"] == (512, 7, 7)


def test_width_multiplies_channels() -> None:
    found = layout(architecture="plain14", width=0.5)
    channels = [layer.channels for layer in found.layers if isinstance(layer, ConvLayer)]
    assert channels == [8, *[8] * 4, *[16] * 4, *[32] * 4]


def test_branches_per_stage_and_per_block_leave_out_the_last_block() -> None:
    found = layout(architecture="plain", blocks=[2, 2, 2], channels=8)
    assert found.branches("stage") == ("stage1_block2", "stage2_block2")
    assert found.branches("block") == (
        "stage1_block1",
        "stage1_block2",
        "stage2_block1",
        "stage2_block2",
        "stage3_block1",
    )
    assert found.branches(("stem",)) == ("stem",)
    assert layout(architecture="mlp", hidden=[5, 4, 3]).branches("block") == ("dense1", "dense2")


def names_of(found: Layout) -> tuple[str, ...]:
    return tuple(layer.name for layer in found.layers)


def test_a_plain_block_ends_with_the_convolution_that_has_its_name() -> None:
    found = layout(architecture="plain", blocks=[1, 1], channels=8)
    assert names_of(found) == (
        "stem",
        "stage1_block1_conv1",
        "stage1_block1",
        "stage2_block1_conv1",
        "stage2_block1",
    )


def test_authors_own_resnet20_starts_silent_residuals_after_three_convolutions() -> None:
    found = layout(architecture="resnet20m")
    assert names_of(found)[:3] == ("stem1", "stem2", "stem3")
    assert all(layer.zero_init for layer in found.layers if isinstance(layer, ResidualLayer))


CONV: dict[str, object] = {"type": "conv", "channels": 4}
MS: dict[str, object] = {"type": "residual", "channels": 4, "residual": "ms"}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"type": "max_pool"}], "the first layer is of type 'max_pool'"),
        ([MS], "the first layer is of type 'residual'"),
        ([CONV, MS], "End with a layer of type 'neuron'"),
        ([CONV, MS, CONV], "Put a layer of type 'neuron' between"),
        ([CONV, {"type": "average_pool", "padding": 2}], "at most half of kernel = 2"),
        ([CONV, {"type": "max_pool", "kernel": 40}], "larger than its source"),
        ([CONV, {"type": "dense", "neurons": 3}, {"type": "max_pool"}], r"needs a source \(C, H"),
        ([CONV, CONV | {"name": "conv1"}], "a second block called 'conv1'"),
        ([CONV, {"type": "residual", "chanels": 3}], "Did you mean 'channels'"),
        ([{"type": "lstm"}], "type = \"lstm\", allowed: 'conv', 'dense', 'delay'"),
    ],
)
def test_what_does_not_fit_is_refused(layers: list[dict[str, object]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        layout(layers=layers)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"architecture": "resnet50"}, "\"resnet50\", allowed: 'sequential', 'res"),
        ({"architecture": "resnet18", "layers": []}, "unknown key 'layers'"),
        ({"architecture": "resnet18", "stem": "imgnet"}, "Did you mean 'imagenet'"),
        ({"architecture": "resnet18", "width": 0}, "above 0"),
        ({"architecture": "residual", "channels": 8}, "key 'blocks' is missing"),
        ({"architecture": "residual", "channels": 8, "blocks": []}, "1 to 16 entries"),
        ({"architecture": "plain", "channels": 8, "blocks": [1, 0]}, "at least 1"),
        ({"architecture": "plain14", "residual": "ms"}, "unknown key 'residual'"),
        ({"architecture": "mlp"}, "key 'hidden' is missing"),
        ({"architecture": "resnet18", "norm": "ln"}, "'tdbn', 'bn', 'tebn'"),
        ({"layers": [], "norm": "bn"}, "at least one entry"),
    ],
)
def test_keys_are_strict(network: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        layout(**network)


def test_images_too_small_for_the_pooling_are_refused() -> None:
    with pytest.raises(RecipeError, match="kernel = 2"):
        layout((1, 8, 8), architecture="vgg11")


DENSE = {"type": "dense", "neurons": 4}
DELAY = {"type": "delay", "longest": 3}


@pytest.mark.parametrize(
    ("layers", "complaint"),
    [
        ([DELAY, DENSE], "layers.0.*the first layer is of type 'delay'"),
        ([DENSE, DELAY, DELAY, DENSE], "layers.2.*a delay must follow a layer of type 'dense'"),
        ([DENSE, DELAY, {"type": "neuron"}], "layers.2.*a 'neuron' layer follows a delay"),
        ([DENSE, DELAY, {**DENSE, "recurrent": True}], "layers.2.*recurrent and after a delay"),
        ([DENSE, {"type": "delay", "longest": 63}], "longest = 63.*62"),
    ],
)
def test_delays_stand_only_where_the_chip_has_them(
    layers: list[dict[str, object]], complaint: str
) -> None:
    with pytest.raises(RecipeError, match=complaint):
        shapes_of(layout((6,), layers=layers), (6,), where="test")


def test_a_recurrent_synapse_counts_as_weights() -> None:
    plain, recurrent = (
        layout((6,), layers=[{**DENSE, "recurrent": value}, DELAY, DENSE])
        for value in (False, True)
    )
    counts = [
        weights_of(each, (6,), shapes_of(each, (6,), where="test"), classes=3)
        for each in (plain, recurrent)
    ]
    assert counts == [6 * 4 + 4 * 4 + 4 * 3, 6 * 4 + 4 * 4 + 4 * 4 + 4 * 3]
