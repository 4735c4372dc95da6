"""Published image sets, read from tiny files in their real formats."""

from __future__ import annotations

import gzip
import hashlib
import math
import pickle  # noqa: TID251 - CIFAR's own files are pickles; they are written here, not read
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision
from PIL import Image
from small_recipes import small_recipe as recipe

from neurodeploy.data import (
    Dataset,
    StoredDataset,
    batches,
    load_data,
)
from neurodeploy.errors import DataError, RecipeError
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.learning.trainer import Trainer
from neurodeploy.nn.network import SpikingNetwork

Bytes = npt.NDArray[np.uint8]


def section(source: str, root: Path, *keys: str) -> str:
    return "\n".join((f'source = "{source}"', f'root = "{root.as_posix()}"', *keys))


def all_of(dataset: Dataset) -> torch.Tensor:
    return dataset.batch(torch.arange(len(dataset)))


# --- MNIST: big-endian idx files ----------------------------------------------------------------


def write_idx(path: Path, values: Bytes) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + values.tobytes())


def write_mnist(root: Path, kind: str = "MNIST") -> dict[str, tuple[Bytes, Bytes]]:
    rng = np.random.default_rng(0)
    parts = {}
    for name, samples in (("train", 40), ("t10k", 20)):
        images = rng.integers(0, 256, (samples, 28, 28)).astype(np.uint8)
        labels = (np.arange(samples) % 10).astype(np.uint8)
        write_idx(root / kind / "raw" / f"{name}-images-idx3-ubyte", images)
        write_idx(root / kind / "raw" / f"{name}-labels-idx1-ubyte", labels)
        parts[name] = images, labels
    return parts


@pytest.mark.parametrize(
    ("source", "kind"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_mnist_gives_the_published_test_part_and_bytes(
    tmp_path: Path, source: str, kind: str
) -> None:
    parts = write_mnist(tmp_path, kind)
    data = section(source, tmp_path, "validation_fraction = 0.25")
    train, validation, test = load_data(recipe(data))
    assert (len(train), len(validation), len(test)) == (30, 10, 20)
    assert (train.shape, train.classes, train.scale, train.is_static) == (
        (1, 28, 28),
        10,
        1 / 256,
        True,
    )
    images, labels = parts["t10k"]
    assert np.array_equal(all_of(test).numpy()[:, 0], images)
    assert np.array_equal(test.labels, labels)
    assert all_of(test).dtype == torch.uint8
    assert np.bincount(validation.labels).tolist() == [1] * 10
    found = np.concatenate([all_of(train).numpy(), all_of(validation).numpy()])[:, 0]
    assert {image.tobytes() for image in found} == {image.tobytes() for image in parts["train"][0]}
    again = load_data(recipe(data))[1]
    other = load_data(recipe(data, seed=1))[1]
    assert torch.equal(all_of(again), all_of(validation))
    assert not torch.equal(all_of(other), all_of(validation))


def test_missing_and_packed_mnist_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_data(recipe(section("mnist", tmp_path)))
    message = str(caught.value)
    for name in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        assert str(tmp_path / "MNIST" / "raw" / name) in message
    assert "yann.lecun.com" in message
    write_mnist(tmp_path)
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    with pytest.raises(DataError, match="gunzip --keep"):
        load_data(recipe(section("mnist", tmp_path)))


def test_truncated_and_foreign_mnist_is_named(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:3], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged or incomplete"):
            load_data(recipe(section("mnist", tmp_path)))
    write_idx(path, np.zeros((40, 14, 14), dtype=np.uint8))
    with pytest.raises(DataError, match=r"uint8 of shape \(1, 28, 28\) is required"):
        load_data(recipe(section("mnist", tmp_path)))
    write_idx(path, np.zeros((39, 28, 28), dtype=np.uint8))
    with pytest.raises(DataError, match="39 images and 40 labels"):
        load_data(recipe(section("mnist", tmp_path)))


def test_a_key_without_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown key 'flip'"):
        recipe(section("mnist", tmp_path, "flip = true"))
    with pytest.raises(RecipeError, match="input_bits = 9, it must be at least 1 and at most 8"):
        recipe(section("mnist", tmp_path, "input_bits = 9"))
    with pytest.raises(RecipeError, match="key 'root' is missing"):
        recipe('source = "mnist"')


def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(
        DataError, match=r"torchvision is needed.*pip install 'neurodeploy\[data\]'"
    ):
        load_data(recipe(section("mnist", tmp_path)))


def test_a_network_learns_from_stored_images_as_the_seed_says(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    data = section("mnist", tmp_path, "validation_fraction = 0.25", "crop_padding = 2")

    def train(epochs: int, folder: str) -> dict[str, torch.Tensor]:
        whole = recipe(data)
        training = replace(whole.training, epochs=epochs, keep="last")
        parts = load_data(whole)
        network = SpikingNetwork.from_recipe(whole)
        trainer = Trainer(training, directory=tmp_path / folder)
        trainer.fit(network, parts[0], parts[1])
        assert math.isfinite(evaluate(network, parts[2]).loss)
        return network.state_dict()

    first, again, longer = train(1, "first"), train(1, "again"), train(2, "longer")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], longer[name]) for name in first)


# --- CIFAR: pickled batches, whose checksums torchvision knows -----------------------------------


def write_pickle(path: Path, content: object) -> tuple[str, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path.name, hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar(root: Path, kind: type, monkeypatch: pytest.MonkeyPatch) -> dict[str, Bytes]:
    """Write tiny batches, and let torchvision expect their checksums for the published ones."""
    rng = np.random.default_rng(0)
    is_100 = kind.__name__ == "CIFAR100"
    classes, key = (100, "fine_labels") if is_100 else (10, "labels")
    lists: dict[str, list[tuple[str, str]]] = {}
    parts: dict[str, list[Bytes]] = {"train_list": [], "test_list": []}
    folder = root / kind.base_folder  # type: ignore[attr-defined]
    for name, found in parts.items():
        entries = []
        for number, (file, _) in enumerate(getattr(kind, name)):
            pixels = rng.integers(0, 256, (2 * classes, 3072)).astype(np.uint8)
            labels = [(index + number) % classes for index in range(len(pixels))]
            entries.append(write_pickle(folder / file, {"data": pixels, key: labels}))
            found.append(pixels)
        lists[name] = entries
        monkeypatch.setattr(kind, name, entries)
    meta = dict(kind.meta)  # type: ignore[attr-defined]
    names = [str(label) for label in range(classes)]
    meta["filename"], meta["md5"] = write_pickle(folder / meta["filename"], {meta["key"]: names})
    monkeypatch.setattr(kind, "meta", meta)
    return {name: np.concatenate(found) for name, found in parts.items()}


CIFARS = [("cifar10", torchvision.datasets.CIFAR10), ("cifar100", torchvision.datasets.CIFAR100)]


@pytest.mark.parametrize(("source", "kind"), CIFARS)
def test_cifar_gives_red_green_blue_planes(
    tmp_path: Path, source: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = write_cifar(tmp_path, kind, monkeypatch)
    train, validation, test = load_data(
        recipe(section(source, tmp_path, "validation_fraction=0.5"))
    )
    assert len(train) + len(validation) == len(parts["train_list"])
    assert train.shape == (3, 32, 32)
    assert set(train.labels) == set(range(train.classes))
    expected = parts["test_list"].reshape(-1, 3, 32, 32)
    assert np.array_equal(all_of(test).numpy(), expected)
    windows = test.windows(2)
    assert windows.dtype == np.int32
    assert np.array_equal(windows, np.stack([expected, expected], axis=1))


@pytest.mark.parametrize(("source", "kind"), CIFARS)
def test_cifar_is_checked_before_it_is_read(
    tmp_path: Path, source: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="kriz/cifar"):
        load_data(recipe(section(source, tmp_path)))
    write_cifar(tmp_path, kind, monkeypatch)
    path = next((tmp_path / kind.base_folder).glob("test*"))  # type: ignore[attr-defined]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{path.name}: damaged or incomplete"):
        load_data(recipe(section(source, tmp_path)))


# --- numbers ------------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    write_cifar(tmp_path, torchvision.datasets.CIFAR10, monkeypatch)

    def load(*keys: str, part: int = 0) -> Dataset:
        return load_data(recipe(section("cifar10", tmp_path, *keys)))[part]

    return load


def test_input_bits_drop_the_lowest(cifar: Callable[..., Dataset]) -> None:
    pixels, cut = all_of(cifar(part=2)), cifar("input_bits = 5", part=2)
    assert torch.equal(all_of(cut), pixels // 8)
    assert cut.scale == 1 / 32


def test_center_subtracts_whole_numbers(cifar: Callable[..., Dataset]) -> None:
    pixels = all_of(cifar(part=2)).int()
    centered = cifar('normalization = "center"', part=2)
    mean = torch.tensor([125, 123, 114]).view(3, 1, 1)  # 255 times .4914, .4822 and .4465
    assert torch.equal(all_of(centered).int(), pixels - mean)
    assert torch.equal(torch.from_numpy(centered.windows(1)[:, 0]), pixels - mean)


def test_the_network_normalises_pixels_as_usual(
    cifar: Callable[..., Dataset], tmp_path: Path
) -> None:
    images = all_of(cifar(part=2))
    expected = torchvision.transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))(
        images / 255
    )
    normal = cifar('normalization = "mean_std"', part=2)
    assert torch.equal(all_of(normal), images)  # the chip reads pixels
    network = SpikingNetwork.from_recipe(
        recipe(section("cifar10", tmp_path, 'normalization = "mean_std"'))
    )
    seen: list[torch.Tensor] = []
    synapse = network.blocks["dense1"].synapse
    synapse.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(all_of(normal))
    # A few roundings of float32 lie between the two.
    torch.testing.assert_close(seen[0].view(expected.shape), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalization", ["scale", "center", "mean_std"])
@pytest.mark.parametrize("bits", [8, 3])
def test_the_range_of_values_holds_all_pixels(
    cifar: Callable[..., Dataset], normalization: str, bits: int
) -> None:
    dataset = cifar(f'normalization = "{normalization}"', f"input_bits = {bits}")
    values = all_of(dataset)
    low, high = dataset.value_range
    assert low <= int(values.min()) <= low + 3 * 2 ** (bits - 3)
    assert high - 3 * 2 ** (bits - 3) <= int(values.max()) <= high


def test_digest_names_pixels_augmentation_and_encoding(cifar: Callable[..., Dataset]) -> None:
    keys = ("", "flip = true", "crop_padding = 4", "auto_augment = true", "input_bits = 7")
    assert len({cifar(key).digest() for key in keys}) == len(keys)
    assert cifar().digest() == cifar("workers = 2").digest()


# --- augmentation -------------------------------------------------------------------------------

PAPER = ("flip = true", "crop_padding = 4", "auto_augment = true")


def one_pass(dataset: Dataset, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [part for batch in batches(dataset, 16, generator=generator) for part in batch]


def test_training_batches_depend_on_the_generator_alone(cifar: Callable[..., Dataset]) -> None:
    train = cifar(*PAPER)
    before = torch.get_rng_state()
    first = one_pass(train, 1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert all(map(torch.equal, first, one_pass(train, 1)))
    assert not all(map(torch.equal, first, one_pass(train, 2)))


def test_workers_change_nothing_but_the_speed(cifar: Callable[..., Dataset]) -> None:
    alone, helped = cifar(*PAPER), cifar(*PAPER, "workers = 2")
    state = torch.get_rng_state()
    assert all(map(torch.equal, one_pass(alone, 3), one_pass(helped, 3)))
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_augmented_without_a_generator(cifar: Callable[..., Dataset]) -> None:
    train, plain = cifar(*PAPER), cifar()
    found = torch.cat([inputs for inputs, _ in batches(train, 16)])
    assert torch.equal(found, all_of(plain))
    assert np.array_equal(train.windows(1)[:, 0], all_of(plain).numpy())


def test_flips_mirror_half_of_the_images(cifar: Callable[..., Dataset]) -> None:
    train = cifar("flip = true")
    images = all_of(train)
    found = train.batch(torch.arange(len(train)), seed=0)
    same = (found == images).flatten(1).all(dim=1)
    mirrored = (found == images.flip(-1)).flatten(1).all(dim=1)
    assert torch.equal(same, ~mirrored)
    assert 0.3 < mirrored.float().mean() < 0.7


def test_crops_are_windows_of_the_padded_image(cifar: Callable[..., Dataset]) -> None:
    train = cifar("crop_padding = 4")
    images = all_of(train)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    places = set()
    for picture, found in zip(padded, train.batch(torch.arange(len(train)), seed=0), strict=True):
        crops = picture.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4)
        (place,) = (crops == found).flatten(2).all(dim=2).nonzero().tolist()
        places.add(tuple(place))
    assert len(places) > 30
    assert {0, 8} <= {row for row, _ in places}


# --- ImageNet: folders of classes ---------------------------------------------------------------


def write_folders(root: Path, names: tuple[str, ...] = ("n01", "n02")) -> None:
    rng = np.random.default_rng(0)
    for part, samples in (("train", 8), ("val", 4)):
        for name in names:
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(samples):
                pixels = rng.integers(0, 256, (20 + number, 26, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}_{number}.JPEG")
    Image.fromarray(pixels[..., 0]).save(root / "val" / "n01" / "gray.JPEG")


SMALL = ("size = 14", "classes = 2", "validation_fraction = 0.25")


def test_folders_are_classes_and_images_get_one_size(tmp_path: Path) -> None:
    write_folders(tmp_path)
    train, validation, test = load_data(recipe(section("imagenet", tmp_path, *SMALL)))
    assert (len(train), len(validation), len(test)) == (12, 4, 9)
    assert np.bincount(test.labels).tolist() == [5, 4]
    assert train.shape == (3, 14, 14)
    assert all_of(test).shape == (9, 3, 14, 14)
    assert all_of(test).dtype == torch.uint8
    assert isinstance(test, StoredDataset)
    with Image.open(tmp_path / "val" / "n01" / "n01_0.JPEG") as image:
        resized = torchvision.transforms.functional.resize(image, 16)
        middle = torchvision.transforms.functional.center_crop(resized, 14)
    expected = torchvision.transforms.functional.pil_to_tensor(middle)
    assert torch.equal(all_of(test)[1], expected)  # "gray.JPEG" comes first
    first = one_pass(train, 1)
    assert all(map(torch.equal, first, one_pass(train, 1)))
    assert not torch.equal(first[0], one_pass(train, 2)[0])
    augmented = load_data(recipe(section("imagenet", tmp_path, *SMALL, "auto_augment = true")))[0]
    assert one_pass(augmented, 1)[0].shape == first[0].shape


def test_hidden_files_of_macos_archives_are_no_images(tmp_path: Path) -> None:
    write_folders(tmp_path)
    for path in list(tmp_path.rglob("*.JPEG")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 Mac OS X")
    parts = load_data(recipe(section("imagenet", tmp_path, *SMALL)))
    assert [len(part) for part in parts] == [12, 4, 9]
    assert all_of(parts[2]).shape == (9, 3, 14, 14)


def test_formats_that_run_other_programs_are_no_images(tmp_path: Path) -> None:
    """Pillow would hand a PostScript file to Ghostscript, whatever its suffix."""
    write_folders(tmp_path)
    path = tmp_path / "val" / "n01" / "n01_2.JPEG"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n%%EOF\n")
    with Image.open(path) as image:
        assert image.format == "EPS"
    data = recipe(section("imagenet", tmp_path, *SMALL))
    with pytest.raises(DataError, match=r"n01_2\.JPEG: cannot be read \(cannot identify image"):
        all_of(load_data(data)[2])


def test_folders_that_do_not_fit_are_named(tmp_path: Path) -> None:
    data = recipe(section("imagenet", tmp_path, *SMALL))
    with pytest.raises(DataError, match=r"train: no such folder.*image-net\.org"):
        load_data(data)
    write_folders(tmp_path)
    with pytest.raises(DataError, match=r"2 folders, data\.classes says 1000"):
        load_data(recipe(section("imagenet", tmp_path)))
    damaged = tmp_path / "val" / "n01" / "n01_2.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(DataError, match=r"n01_2\.JPEG: cannot be read .*An image is required"):
        all_of(load_data(data)[2])
    (tmp_path / "val" / "n02").rename(tmp_path / "val" / "n03")
    with pytest.raises(DataError, match=r"other classes than in .*train: n02, n03"):
        load_data(data)
