from __future__ import annotations

import torch

from neurodeploy.data import load_data
from neurodeploy.data.augmentation import Warp, warp_images
from neurodeploy.recipes.recipe import Recipe


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


IMAGES = torch.randint(0, 17, (6, 1, 8, 8), generator=generator(), dtype=torch.int32)


def test_no_warp_leaves_every_pixel() -> None:
    assert torch.equal(warp_images(IMAGES, Warp(), generator=generator()), IMAGES)


def test_images_stay_integers_and_differ_by_seed() -> None:
    warp = Warp(degrees=15, zoom=0.1)
    first = warp_images(IMAGES, warp, generator=generator(1))
    assert first.dtype == IMAGES.dtype
    assert first.shape == IMAGES.shape
    assert int(first.min()) >= 0
    assert int(first.max()) <= 16
    assert torch.equal(first, warp_images(IMAGES, warp, generator=generator(1)))
    assert not torch.equal(first, warp_images(IMAGES, warp, generator=generator(2)))
    assert not torch.equal(first, IMAGES)


def test_a_turned_line_is_turned_about_the_middle() -> None:
    # A bar through the middle: however little it turns, its middle stays and its ends leave.
    bar = torch.zeros((64, 1, 9, 9), dtype=torch.int32)
    bar[:, :, 4, :] = 16
    turned = warp_images(bar, Warp(degrees=45), generator=generator())
    assert bool((turned[:, 0, 4, 4] == 16).all())
    assert float(turned[:, 0, 4, 0].float().mean()) < 8
    # Both directions occur: the left end goes up in some images and down in others.
    above, below = turned[:, 0, :4, 0].sum(1), turned[:, 0, 5:, 0].sum(1)
    assert bool((above > below).any())
    assert bool((below > above).any())


def test_zoom_makes_a_square_larger_and_smaller() -> None:
    square = torch.zeros((64, 1, 8, 8), dtype=torch.int32)
    square[:, :, 2:6, 2:6] = 16
    sums = warp_images(square, Warp(zoom=0.3), generator=generator()).sum(dim=(1, 2, 3))
    assert int(sums.min()) < 16 * 16 < int(sums.max())


def test_only_training_batches_are_warped() -> None:
    recipe = Recipe.parse(
        """
        [recipe]
        name = "warped"
        [data]
        rotate = 10
        zoom = 0.1
        [network]
        steps = 1
        layers = [{type = "dense", neurons = 4}]
        [neuron]
        [training]
        epochs = 1
        """
    )
    train, _, test = load_data(recipe)
    indices = torch.arange(20)
    plain = train.batch(indices)
    assert train.is_random
    assert torch.equal(plain, train.batch(indices))
    assert not torch.equal(plain, train.batch(indices, seed=1))
    assert torch.equal(train.batch(indices, seed=1), train.batch(indices, seed=1))
    assert test.windows(1).shape == (360, 1, 1, 8, 8)
