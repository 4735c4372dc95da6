"""The commands as a user meets them: help, output, options, exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurodeploy import netx
from neurodeploy.cli.commands import simulate
from neurodeploy.files import hardware_path
from neurodeploy.fixedpoint import THRESHOLD_MAX
from neurodeploy.lava_bridge import lava_simulator
from neurodeploy.reports import certificate
from neurodeploy.reports.certificate import Certificate
from neurodeploy.reports.certified_facts import CertifiedRun
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Recording, Stream

COMMANDS = (
    ("run",),
    ("train",),
    ("deploy",),
    ("recipes",),
    ("init",),
    ("simulate",),
    ("verify",),
    ("report",),
    ("compare",),
    ("macs",),
    ("advise",),
    ("convert",),
    ("export",),
    ("fit",),
    ("inspect",),
    ("zoo", "list"),
    ("zoo", "get"),
    ("lava", "install"),
    ("lava", "doctor"),
    ("doctor",),
)
DENSE = "01_dense_basic.net"
INPUT_BLOCK = "21_input_block_lif.net"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(neurodeploy, command: tuple[str, ...]) -> None:
    outcome = neurodeploy(*command, "--help")
    assert outcome.code == 0
    assert f"Example: neurodeploy {' '.join(command)}" in outcome.out
    assert "…" not in outcome.out  # nothing is cut off at 80 columns


def test_help_keeps_what_stands_in_angle_brackets(neurodeploy) -> None:
    for command, words in (("run", "runs/<recipe name>-<n>"), ("simulate", "spikes_<k>")):
        lines = (line.strip("│ ") for line in neurodeploy(command, "-h").out.splitlines())
        assert words in " ".join(lines)


@pytest.mark.parametrize("arguments", [(), ("lava",), ("zoo",)])
def test_without_a_command_the_commands_are_listed(neurodeploy, arguments: tuple[str]) -> None:
    outcome = neurodeploy(*arguments)
    assert outcome.code == 2
    assert "Commands" in outcome.out


def test_the_version_is_printed(neurodeploy) -> None:
    outcome = neurodeploy("--version")
    assert (outcome.code, outcome.out.split()[0]) == (0, "neurodeploy")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("simulate",),
        ("simulate", "NET"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--steps", "1e3", "--stream"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--feed", "spoon"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--backend", "abacus"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--no-such-option"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--stream", "--window", "4"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--steps", "4"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--reset-interval", "4"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--reset-offset", "1"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--lava-python", "python3"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--timeout", "9"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--input-shape", "2,3"),
        ("simulate", "NET", "-i", "IN", "-o", "OUT", "--input-shape", "0"),
        ("verify", "NET", "-i", "IN", "--stream", "--window", "4"),
        ("report", "NET", "-i", "IN", "--stream", "--window", "4"),
        ("run", "digits", "--set", "training.epochs"),
        ("run", "digits", "--resume"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(
    neurodeploy, golden: Path, samples, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    output = tmp_path / "out.npz"
    real = {"NET": golden / DENSE, "IN": samples(np.ones((1, 4, 24), int)), "OUT": output}
    outcome = neurodeploy(*(real.get(argument, argument) for argument in arguments))
    assert outcome.code == 2
    assert "Error" in outcome.err
    assert outcome.out == ""
    assert not output.exists()


def test_the_default_is_a_window_of_the_inputs_length(
    neurodeploy, golden: Path, samples, tmp_path: Path
) -> None:
    """Each sample starts from zero, and step t of the output answers step t of the input."""
    inputs = np.random.default_rng(0).integers(0, 2, (3, 8, 24))
    source = samples(inputs)
    plain, window = tmp_path / "plain.npz", tmp_path / "window.npz"
    assert neurodeploy("simulate", golden / DENSE, "-i", source, "-o", plain).code == 0
    code = neurodeploy("simulate", golden / DENSE, "-i", source, "-o", window, "--window", 8).code
    assert code == 0
    expected = EventSimulator(netx.read(golden / DENSE)).run(inputs)
    with np.load(plain) as first, np.load(window) as second:
        assert set(first) == {"spikes_0", "spikes_1", "voltage", "current", "layers", "prediction"}
        assert first["spikes_0"].shape == (3, 8, 20)
        assert first["voltage"].shape == (3, 8, 7)
        np.testing.assert_array_equal(first["spikes_0"], expected.spikes[0])
        np.testing.assert_array_equal(first["spikes_1"], expected.spikes[1])
        np.testing.assert_array_equal(first["voltage"], expected.voltage)
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


def test_what_simulate_records_is_chosen(
    neurodeploy, golden: Path, samples, tmp_path: Path
) -> None:
    inputs = np.random.default_rng(0).integers(0, 2, (3, 8, 24))
    command = ("simulate", golden / DENSE, "-i", samples(inputs), "-o", tmp_path / "out.npz")
    expected = EventSimulator(netx.read(golden / DENSE)).run(inputs)

    def written(*options: object) -> dict[str, np.ndarray]:
        assert neurodeploy(*command, *options).code == 0
        with np.load(tmp_path / "out.npz") as file:
            return dict(file)

    outputs = written("--record", "outputs")
    assert set(outputs) == {"layers", "spikes_1", "voltage", "current", "prediction"}
    np.testing.assert_array_equal(outputs["prediction"], expected.spikes[1].sum(1).argmax(1))
    assert outputs["spikes_1"].dtype == np.uint8
    counts = written("--record", "counts")
    assert set(counts) == {"layers", "prediction"} | {
        f"{kind}_{k}" for kind in ("events", "active", "membrane") for k in (0, 1)
    }
    np.testing.assert_array_equal(counts["events_0"], expected.spikes[0].sum(1))
    events = written("--record", "events")
    assert {name for name in counts if name not in events} == {
        name for name in counts if name.startswith(("active_", "membrane_"))
    }
    np.testing.assert_array_equal(events["events_0"], counts["events_0"])
    assert events["events_0"].dtype == np.int32
    chosen = written("--record", "counts", "--spikes", "dense_0", "--states", "dense_0")
    assert set(chosen) - set(counts) == {"spikes_0", "voltage_0", "current_0"}
    np.testing.assert_array_equal(chosen["spikes_0"], expected.spikes[0])
    outcome = neurodeploy(*command, "--spikes", "conv")
    assert outcome.code == 1
    assert "no layer 'conv'. Layers of this network: dense_0, dense_1" in outcome.errors[0]
    answer = json.loads(neurodeploy(*command, "--record", "outputs", "--json").out)
    assert answer["layers"][0] == {
        "name": "dense_0",
        "shape": [20],
        "spikes": None,
        "current_wraps": 0,
        "voltage_clips": 0,
        "sum_peak": 0,
        "sum_overflows": 0,
        "message_peak": 0,
        "message_overflows": 0,
    }


def test_a_stream_longer_than_its_input_repeats_it(
    neurodeploy, golden: Path, samples, tmp_path: Path
) -> None:
    inputs = np.random.default_rng(1).integers(0, 2, (2, 5, 24))
    output = tmp_path / "out.npz"
    options = ("--stream", "--steps", 12, "--reset-interval", 4, "--reset-offset", 1)
    assert neurodeploy("simulate", golden / DENSE, "-i", samples(inputs), "-o", output, *options)
    repeated = np.concatenate([inputs, inputs, inputs], axis=1)[:, :12]
    timing = Stream(reset_interval=4, reset_offset=1)
    expected = EventSimulator(netx.read(golden / DENSE)).run(repeated, timing=timing)
    with np.load(output) as found:
        np.testing.assert_array_equal(found["spikes_1"], expected.spikes[1])


def test_a_bias_image_has_no_time_axis(neurodeploy, golden: Path, samples, tmp_path: Path) -> None:
    images = np.random.default_rng(2).integers(0, 60, (2, 3, 7, 9))
    output = tmp_path / "out.npz"
    command = ("simulate", golden / INPUT_BLOCK, "-i", samples(images), "-o", output)
    outcome = neurodeploy(*command, "--feed", "bias")
    assert outcome.code == 1
    assert "--window" in outcome.errors[0]
    assert neurodeploy(*command, "--feed", "bias", "--window", 6).code == 0
    with np.load(output) as found:
        assert found["spikes_0"].shape == (2, 6, 3, 7, 9)
        assert found["spikes_0"].any()


def test_graded_input_counts_by_its_value(
    neurodeploy, golden: Path, samples, tmp_path: Path
) -> None:
    source = samples(np.random.default_rng(6).integers(0, 4, (1, 4, 24)))
    binary, graded = tmp_path / "binary.npz", tmp_path / "graded.npz"
    outcome = neurodeploy("simulate", golden / DENSE, "-i", source, "-o", binary, "--json")
    assert outcome.code == 0
    assert outcome.err.count("warning:") == 1
    assert "--input-bits" in outcome.err
    json.loads(outcome.out)
    outcome = neurodeploy("simulate", golden / DENSE, "-i", source, "-o", graded, "--input-bits", 4)
    assert (outcome.code, outcome.err) == (0, f"wrote {graded}\n")
    with np.load(binary) as first, np.load(graded) as second:
        assert not np.array_equal(first["spikes_0"], second["spikes_0"])


@pytest.mark.lava
@pytest.mark.parametrize("options", [(), ("--stream", "--steps", "9")])
def test_verify_exits_with_0_when_all_is_equal(
    neurodeploy, golden: Path, samples, options: tuple[str, ...]
) -> None:
    source = samples(np.random.default_rng(3).integers(0, 2, (2, 6, 24)))
    outcome = neurodeploy("verify", golden / DENSE, "-i", source, *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert "equal: every spike of every layer" in outcome.out


class FaultyReference:
    """Stands in for Lava: our simulator with one value changed."""

    def __init__(self, path: Path, **options: object) -> None:
        self._simulator = EventSimulator(netx.read(path))

    def run(self, inputs: np.ndarray, **options: object) -> Recording:
        recording = self._simulator.run(inputs)
        recording.spikes[1][1, 3, 2] ^= 1
        recording.spikes[1][0, 5, 6] ^= 1
        return recording


def test_verify_names_the_first_difference(
    neurodeploy, golden: Path, samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_simulator, "LavaSimulator", FaultyReference)
    source = samples(np.random.default_rng(4).integers(0, 2, (2, 6, 24)))
    outcome = neurodeploy("verify", golden / DENSE, "-i", source)
    assert outcome.code == 1
    assert len(outcome.errors) == 1
    assert "dense_1: spikes differ first at step 3, sample 1, neuron (2)" in outcome.errors[0]
    outcome = neurodeploy("verify", golden / DENSE, "-i", source, "--json")
    assert outcome.code == 1
    answer = json.loads(outcome.out)
    assert (answer["is_equal"], answer["differing"]) == (False, 2)
    assert answer["layers"][0]["difference"] is None
    difference = answer["layers"][1]["difference"]
    assert (difference["step"], difference["sample"], difference["neuron"]) == (3, 1, [2])


class FaultyState(FaultyReference):
    """Equal spikes, another voltage."""

    def run(self, inputs: np.ndarray, **options: object) -> Recording:
        recording = self._simulator.run(inputs)
        recording.traces["voltage"][0, 2, 4] += 1
        return recording


def test_verify_compares_states_as_well(
    neurodeploy, golden: Path, samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_simulator, "LavaSimulator", FaultyState)
    source = samples(np.random.default_rng(4).integers(0, 2, (2, 6, 24)))
    outcome = neurodeploy("verify", golden / DENSE, "-i", source)
    assert outcome.code == 1
    assert "voltage differ first at step 2, sample 0, neuron (4)" in outcome.errors[0]


def test_report_gives_the_keys_of_its_contract(neurodeploy, golden: Path, samples) -> None:
    source = samples(np.random.default_rng(5).integers(0, 2, (2, 6, 24)))
    outcome = neurodeploy("report", golden / DENSE, "-i", source, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    answer = json.loads(outcome.out)
    assert [layer["name"] for layer in answer["layers"]] == ["dense_0", "dense_1"]
    keys = {"name", "type", "events", "sops", "sops_stored", "neurons"}
    assert all(keys <= layer.keys() for layer in answer["layers"])
    assert answer["totals"]["sops"] == sum(layer["sops"] for layer in answer["layers"])
    assert {tier["tier"] for tier in answer["tiers"]} == {"A", "B", "C"}


def test_report_reads_the_array_that_is_named(neurodeploy, golden: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(5).integers(0, 2, (2, 6, 24))
    np.savez(tmp_path / "samples.npz", other=values)
    command = ("report", golden / DENSE, "-i", tmp_path / "samples.npz", "--json")
    assert "no array 'input'" in neurodeploy(*command).errors[0]
    answer = json.loads(neurodeploy(*command, "--key", "other").out)
    assert answer["layers"][0]["events"] == np.count_nonzero(values)


def test_report_writes_a_page_and_markdown(
    neurodeploy, golden: Path, samples, tmp_path: Path
) -> None:
    source = samples(np.random.default_rng(5).integers(0, 2, (2, 6, 24)))
    page, text = tmp_path / "report.html", tmp_path / "report.md"
    command = ("report", golden / DENSE, "-i", source, "--html", page, "--markdown", text)
    outcome = neurodeploy(*command, "--stream", "--steps", 9)
    assert (outcome.code, outcome.err) == (0, f"wrote {page}\nwrote {text}\n")
    assert "dense_1" in page.read_text()
    assert "dense_1" in text.read_text()
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_inspect_shows_layers_and_neurons(neurodeploy, golden: Path) -> None:
    outcome = neurodeploy("inspect", golden / DENSE)
    assert outcome.code == 0
    assert "LIF" in outcome.out
    assert "…" not in outcome.out
    answer = json.loads(neurodeploy("inspect", golden / DENSE, "--json").out)
    assert answer["input"] == {"shape": [24], "message_bits": 0, "has_neuron": False}
    assert answer["layers"][1]["neuron"] == {
        "type": "LIF",
        "current_decay": [300, 300],
        "voltage_decay": [100, 100],
        "threshold": [200, 200],
    }


@pytest.mark.parametrize("name", ["22_sdnn", "25_complex_rf", "07_dense_rec", "17_maxpool_or"])
def test_inspect_knows_every_kind_of_layer(neurodeploy, golden: Path, name: str) -> None:
    assert neurodeploy("inspect", golden / f"{name}.net").code == 0
    answer = json.loads(neurodeploy("inspect", golden / f"{name}.net", "--json").out)
    assert all(layer["weights"] or layer["type"] == "input" for layer in answer["layers"])


def test_recipes_are_listed(neurodeploy) -> None:
    listed = " ".join(neurodeploy("recipes").out.split())
    assert "digits" in listed
    for line in (
        "cifar10_resnet18_t4_evolutionary 94.46 ± 0.11 v1, Table 2 17",
        "cifar100_resnet18_t4_shortcut 74.78 v1, Table 1 17 74.02 ± 0.08 v1, Table 2",
        "cifar100_resnet19_t2_evolutionary 77.79 NeurIPS, Section 5.2 34",
        "cifar10_resnet19_t4_evolutionary - 69",
    ):
        assert line in listed
    answer = json.loads(neurodeploy("recipes", "--json").out)
    assert all(Path(recipe["path"].partition("#")[0]).is_file() for recipe in answer)
    row = next(each for each in answer if each["name"] == "cifar100_resnet18_t4_shortcut")
    assert (row["data"], row["network"], row["steps"]) == ("cifar100", "resnet18", 4)
    assert row["paper"]["text"] == "v1"
    assert row["paper"]["targets"] == [
        {"accuracy": 74.78, "spread": None, "place": "Table 1"},
        {"accuracy": 74.02, "spread": 0.08, "place": "Table 2"},
    ]
    digits = next(each for each in answer if each["name"] == "digits")
    assert digits["paper"] is None


def test_keys_of_recipes_are_listed(neurodeploy) -> None:
    listed = " ".join(neurodeploy("recipes", "--keys", "training.loss").out.split())
    assert '[training.loss] name = "tet"' in listed
    assert "0.05" in listed
    answer = json.loads(neurodeploy("recipes", "--keys", "data.npz", "--json").out)
    assert [section["choices"] for section in answer] == [["npz"]]
    wrong = neurodeploy("recipes", "--keys", "trainin")
    assert wrong.code == 1
    assert "'trainin': a recipe has no such section. Did you mean 'training'?" in wrong.err
    assert neurodeploy("recipes", "training").code == 2


@pytest.mark.lava
def test_doctor_tells_of_the_whole_installation(neurodeploy) -> None:
    outcome = neurodeploy("doctor", "--json")
    found = json.loads(outcome.out)
    assert found["versions"]["numpy"] == np.__version__
    assert found["lava"]["is_present"] in (True, False)
    assert {one["name"] for one in found["packages"]} >= {"torch", "distributed", "ray", "tonic"}
    assert outcome.code == bool(found["problems"])


@pytest.mark.slow
def test_doctor_measures_a_first_and_a_later_start(neurodeploy) -> None:
    outcome = neurodeploy("doctor", "--compile")
    assert "first start, compiling" in outcome.out
    assert "neurodeploy[" not in outcome.out or "'neurodeploy[" in outcome.out
    assert "later start" in outcome.out


@pytest.mark.lava
def test_doctor_says_that_lava_works(neurodeploy) -> None:
    outcome = neurodeploy("lava", "doctor", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["is_working"] is True


def test_doctor_finds_a_missing_runtime(neurodeploy, tmp_path: Path) -> None:
    outcome = neurodeploy("lava", "doctor", "--path", tmp_path / "nowhere", "--json")
    assert outcome.code == 1
    assert len(outcome.errors) == 1
    assert json.loads(outcome.out)["is_present"] is False


# --- in a process of its own ----------------------------------------------------------------

TORCH_FREE = """
import sys
from neurodeploy.cli import main
for arguments in {commands!r}:
    sys.argv = ["neurodeploy", *arguments]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, (arguments, end.code)
    heavy = {{"torch", "sklearn", "safetensors"}} & set(sys.modules)
    assert not heavy, (arguments, heavy)
"""


@pytest.mark.lava
def test_what_runs_a_file_never_loads_torch(golden: Path, samples, tmp_path: Path) -> None:
    net, source, output = map(
        str, (golden / DENSE, samples(np.ones((1, 3, 24), int)), tmp_path / "out.npz")
    )
    commands = [
        ["simulate", net, "-i", source, "-o", output],
        ["report", net, "-i", source, "--html", str(tmp_path / "report.html")],
        ["inspect", net],
        ["recipes"],
        ["verify", net, "-i", source],
    ]
    script = TORCH_FREE.format(commands=commands)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_behind_standard_output_is_one_error(golden: Path) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full here")
    command = [sys.executable, "-m", "neurodeploy", "inspect", str(golden / DENSE)]
    for extra in ([], ["--json"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run([*command, *extra], stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1
        assert done.stderr.decode().strip() == "error: standard output: No space left on device."


def test_a_reader_that_leaves_early_is_no_fault(golden: Path) -> None:
    command = [sys.executable, "-m", "neurodeploy", "inspect", str(golden / DENSE), "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("suffix", ["html", "svg", "png"])
def test_simulate_draws_what_happened(neurodeploy, golden: Path, samples, tmp_path, suffix) -> None:
    inputs = np.random.default_rng(0).integers(0, 2, (3, 8, 24))
    plot = tmp_path / f"plot.{suffix}"
    outcome = neurodeploy(
        "simulate", golden / DENSE, "-i", samples(inputs), "-o", tmp_path / "out.npz",
        "--plot", plot, "--states", "dense_0", "--sample", 2, "--neurons", "4,7",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    if suffix == "png":
        assert plot.read_bytes().startswith(b"\x89PNG")
    else:
        words = plot.read_text(encoding="utf-8")
        assert "neuron 4" in words
        assert "ample 2" in words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--plot", "plot.gif"), ".html, .svg, .png"),
        (("--plot", "plot.png", "--sample", 3), "holds 3 samples, 0 to 2. Name one of them."),
        (("--plot", "plot.png", "--neurons", "99"), "no neuron 99"),
        (("--plot", "nowhere.d/../plot.png", "--states", "conv"), "no layer 'conv'"),
    ],
)
def test_plots_that_cannot_be_drawn_are_refused(
    neurodeploy, golden: Path, samples, tmp_path, monkeypatch, options, words
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = samples(np.ones((3, 8, 24), int))
    outcome = neurodeploy("simulate", golden / DENSE, "-i", inputs, "-o", "out.npz", *options)
    assert outcome.code == 1
    assert words in outcome.errors[0]
    assert not list(tmp_path.glob("plot*"))


def test_overflow_is_warned_of(neurodeploy, golden: Path, samples, tmp_path) -> None:
    net = golden / "15_overflow_lif.net"
    with np.load(golden / "15_overflow_lif.npz") as recorded:
        inputs = samples(recorded["x"].T[np.newaxis].astype(np.int32))
    outcome = neurodeploy("simulate", net, "-i", inputs, "-o", tmp_path / "out.npz")
    assert outcome.code == 0
    assert "24 bits were not enough in" in outcome.err
    answer = neurodeploy("simulate", net, "-i", inputs, "-o", tmp_path / "out.npz", "--json").out
    layers = json.loads(answer)["layers"]
    assert sum(one["current_wraps"] + one["voltage_clips"] for one in layers) > 0


@pytest.mark.lava
def test_limits_of_sigma_delta_neurons_are_warned_of(
    neurodeploy, golden: Path, samples, tmp_path: Path
) -> None:
    net = golden / "sigma_delta" / "01_conv_chain.net"
    frames = np.zeros((1, 6, 1, 8, 8), np.int32)
    frames[:, 1:] = 511
    command = ("simulate", net, "-i", samples(frames), "-o", tmp_path / "out.npz")
    outcome = neurodeploy(*command)
    assert outcome.code == 0
    assert "32,704" in outcome.out  # the largest message: 511 · 64
    assert "limits passed" not in outcome.err
    frames[:, 1:] = 4000
    inputs = samples(frames)
    outcome = neurodeploy(*command[:3], inputs, *command[4:])
    said = " ".join(outcome.err.split())
    assert "limits passed: " in said
    assert "64 messages beyond 32,767, the largest 256,000" in said
    answer = json.loads(neurodeploy(*command[:3], inputs, *command[4:], "--json").out)
    assert answer["layers"][0]["message_peak"] == 256_000
    assert answer["layers"][0]["message_overflows"] == 64
    outcome = neurodeploy("verify", net, "-i", inputs)
    assert outcome.code == 0
    assert "64 messages beyond 32,767" in " ".join(outcome.err.split())


def test_exports_are_models_that_other_commands_take(
    neurodeploy, golden: Path, samples, tmp_path: Path
) -> None:
    net = golden / "10_conv_flatten_dense.net"
    shape = netx.read(net).input.shape
    twin, step = tmp_path / "twin.onnx", tmp_path / "step.onnx"
    outcome = neurodeploy("export", net, "--ann", twin, "--step", step, "--json")
    assert outcome.code == 0
    named = {"ann": str(twin), "step": str(step), "nir": None}
    assert json.loads(outcome.out) == {**named, "wrote": [str(twin), str(step)]}
    source = samples(np.random.default_rng(0).integers(0, 2, (2, 4, *shape)))
    plain = json.loads(neurodeploy("report", net, "-i", source, "--json").out)
    with_ann = json.loads(neurodeploy("report", net, "-i", source, "--ann", twin, "--json").out)
    assert with_ann["ann"]["macs_border_exact"] == plain["relu_twin"]["macs_border_exact"]
    for document in (plain, with_ann):  # of neither is known what lowering has added
        assert document["relu_twin"]["counted_from"] == "layers as stored"
        assert document["ann"]["is_comparable"] is False
        assert document["fairness"]["headline"] is None
    assert with_ann["ann"]["macs_effective"] <= with_ann["ann"]["macs_border_exact"]
    counted = json.loads(neurodeploy("macs", step, "--bind", "batch=1", "--json").out)
    assert counted["totals"]["macs_border_exact"] == plain["relu_twin"]["macs_border_exact"]
    assert neurodeploy("export", net).code == 2
    assert neurodeploy("export", tmp_path / "no.net", "--step", step).code == 1


def test_a_training_exports_its_twin(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    run, twin = tmp_path / "run", tmp_path / "twin.onnx"
    assert neurodeploy("train", tiny_recipe(), "--out", run).code == 0
    outcome = neurodeploy("export", run, "--ann", twin)
    assert outcome.code == 0
    assert "ReLU twin" in " ".join(outcome.out.split())  # a long path breaks the line anywhere
    counted = json.loads(neurodeploy("macs", twin, "--bind", "batch=1", "--json").out)
    assert counted["totals"]["macs_standard"] == 4 * 9 * 25 + 4 * 4 * 9 * 9 + 36 * 3
    assert neurodeploy("export", run, "--step", twin).code == 1  # not deployed yet


def test_nir_exports_are_networks_that_other_commands_take(
    neurodeploy, golden: Path, tiny_recipe, tmp_path: Path
) -> None:
    run, trained, stored = tmp_path / "run", tmp_path / "trained.nir", tmp_path / "stored.nir"
    assert neurodeploy("train", tiny_recipe(), "--out", run).code == 0
    outcome = neurodeploy("export", run, "--nir", trained, "--json")
    assert json.loads(outcome.out)["nir"] == str(trained)
    assert neurodeploy("inspect", trained).code == 0
    assert neurodeploy("export", golden / "17_maxpool_or.net", "--nir", stored).code == 0
    assert neurodeploy("inspect", stored).code == 0
    refused = neurodeploy("export", golden / "05_dense_delay.net", "--nir", tmp_path / "no.nir")
    assert refused.code == 1
    assert "delays have no counterpart" in " ".join(refused.err.split())
    assert not (tmp_path / "no.nir").exists()


def test_a_cut_input_keeps_what_is_whole_and_resume_goes_on(
    neurodeploy, golden: Path, tmp_path: Path
) -> None:
    inputs = np.random.default_rng(0).integers(0, 2, (9, 8, 24))
    command = ("simulate", golden / DENSE, "-i", tmp_path / "in.npy", "-o", tmp_path / "out.npz")
    np.save(tmp_path / "in.npy", inputs)
    whole = (tmp_path / "in.npy").read_bytes()
    assert neurodeploy(*command).code == 0
    expected = (tmp_path / "out.npz").read_bytes()
    (tmp_path / "out.npz").unlink()
    (tmp_path / "in.npy").write_bytes(whole[: len(whole) * 2 // 3])
    outcome = neurodeploy(*command)
    assert outcome.code == 1
    assert "cut short: 5 of 9 samples are complete" in outcome.errors[0]
    assert "out.npz.parts" in outcome.errors[0]
    (tmp_path / "in.npy").write_bytes(whole)
    outcome = neurodeploy(*command)
    assert outcome.code == 1
    assert "5 finished samples of an interrupted run. Go on with --resume" in outcome.errors[0]
    outcome = neurodeploy(*command, "--resume")
    assert outcome.code == 0
    said = " ".join(outcome.out.split())
    assert "9 samples of 8 steps, the last part of them in" in said
    assert "sample-steps/s" not in said  # five of them were computed before
    assert (tmp_path / "out.npz").read_bytes() == expected


def test_an_interrupted_simulation_says_how_to_go_on(
    neurodeploy, golden: Path, samples, tmp_path: Path, monkeypatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        (tmp_path / "out.npz.parts").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(simulate, "run_samples", interrupt)
    inputs = samples(np.ones((1, 8, 24), int))
    outcome = neurodeploy("simulate", golden / DENSE, "-i", inputs, "-o", tmp_path / "out.npz")
    assert outcome.code == 130
    assert "go on with --resume" in outcome.errors[0]


@pytest.mark.parametrize("options", [("--memory", "much"), ("--neurons", "a"), ("--workers", 0)])
def test_options_that_say_nothing_are_wrong_usage(
    neurodeploy, golden: Path, samples, tmp_path: Path, options
) -> None:
    inputs = samples(np.ones((1, 8, 24), int))
    output = ("-o", tmp_path / "out.npz", "--plot", tmp_path / "p.svg")
    outcome = neurodeploy("simulate", golden / DENSE, "-i", inputs, *output, *options)
    assert outcome.code == 2
    assert options[0] in outcome.err


def test_many_samples_are_for_our_simulator(neurodeploy, golden, samples, tmp_path) -> None:
    inputs = samples(np.ones((1, 8, 24), int))
    outcome = neurodeploy(
        "simulate", golden / DENSE, "-i", inputs, "-o", tmp_path / "o.npz", "--backend", "lava",
        "--resume",
    )  # fmt: skip
    assert outcome.code == 2


def test_a_report_takes_chips_placement_and_measurements(
    neurodeploy, golden: Path, samples, tmp_path: Path
) -> None:
    source = samples(np.ones((1, 4, 24), int))
    profile = tmp_path / "profile.json"
    profile.write_text('{"source": "a chip", "samples": 1, "syn_ops": 5000}')
    preset = tmp_path / "mine.toml"
    text = (hardware_path() / "targets/energy/loihi1_davies2018.toml").read_text(encoding="utf-8")
    preset.write_text(text.replace("loihi1_davies2018", "mine").replace("23.6", "10.0"))
    outcome = neurodeploy(
        "report", golden / DENSE, "-i", source, "--json", "--preset", preset, "--measured", profile,
        "--step-time", 10, "--chips", 2, "--hops", "2,1", "--destination-cores", 3,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    (tier,) = document["tiers"]
    messages = document["totals"]["messages"] * 3
    assert tier["preset"] == "mine"
    assert tier["breakdown"]["synaptic operations"] == 5000 * 10.0
    assert tier["breakdown"]["messages"] == pytest.approx(messages * 1.7)
    assert tier["breakdown"]["hops"] == pytest.approx(messages * (2 * 3.0 + 4.0))
    assert (tier["static"]["energy"], tier["static"]["chips"]) == (104 * 10 * 4 * 2 * 1e3, 2)
    assert document["measured"]["counters"]["syn_ops"]["measured"] == 5000
    wrong = neurodeploy("report", golden / DENSE, "-i", source, "--hops", "two")
    assert (wrong.code, wrong.out) == (2, "")


def test_the_schema_is_printed_without_a_network(neurodeploy) -> None:
    outcome = neurodeploy("report", "--schema")
    assert outcome.code == 0
    assert json.loads(outcome.out)["title"] == "neurodeploy report"


@pytest.fixture
def labelled(golden: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write samples of `DENSE` with a `label`, half of them right by the rule of most spikes."""
    inputs = np.random.default_rng(1).integers(0, 2, (4, 12, 24))
    spikes = EventSimulator(netx.read(golden / DENSE)).run(inputs).spikes_of(-1)
    right = spikes.sum(axis=1).argmax(axis=1)
    labels = np.where(np.arange(4) < 2, right, (right + 1) % spikes.shape[2])

    def write(label: object = labels, suffix: str = ".npz") -> Path:
        path = tmp_path / f"labelled{suffix}"
        if suffix == ".npz":
            np.savez(path, input=inputs, label=label)
        else:
            with h5py.File(path, "w") as file:
                file["input"], file["label"] = inputs, label
        return path

    return write


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("command", ["simulate", "verify", "report"])
def test_labels_give_an_accuracy_and_the_rule_behind_it(
    neurodeploy, golden: Path, labelled, tmp_path, monkeypatch, command: str, suffix: str
) -> None:
    monkeypatch.setattr(
        lava_simulator, "LavaSimulator", lambda net, **_: EventSimulator(netx.read(net))
    )
    rest = ("-o", tmp_path / f"out{suffix}") if command == "simulate" else ()
    line = (command, golden / DENSE, "-i", labelled(suffix=suffix), *rest)
    words = " ".join(neurodeploy(*line).out.split())
    assert "accuracy 50.00% of 4 samples" in words
    assert "the most spikes of the last layer over all steps" in words
    answer = json.loads(neurodeploy(*line, "--json").out)["accuracy"]
    assert answer["deployed" if command == "report" else "accuracy"] == 0.5


def test_a_read_out_decides_by_its_voltage(neurodeploy, golden: Path, tmp_path: Path) -> None:
    graph = netx.read(golden / DENSE)
    last = graph.layers[-1]
    silent = replace(last.neuron, threshold=np.full_like(last.neuron.threshold, THRESHOLD_MAX))
    netx.write(replace(graph, layers=(*graph.layers[:-1], replace(last, neuron=silent))),
               tmp_path / "readout.net")  # fmt: skip
    inputs = np.random.default_rng(1).integers(0, 2, (4, 12, 24))
    voltage = EventSimulator(netx.read(tmp_path / "readout.net")).run(inputs).voltage
    right = voltage[:, -1].argmax(axis=1)
    assert right.all()  # by its spikes, of which there are none, class 0 would win
    np.savez(tmp_path / "in.npz", input=inputs, label=right)
    line = ("simulate", tmp_path / "readout.net", "-i", tmp_path / "in.npz", "-o")
    outcome = neurodeploy(*line, tmp_path / "out.npz")
    assert "accuracy 100.00% of 4 samples" in outcome.out
    assert "the highest voltage of the last layer" in " ".join(outcome.out.split())
    with np.load(tmp_path / "out.npz") as file:
        np.testing.assert_array_equal(file["prediction"], right)
    outcome = neurodeploy(*line, tmp_path / "out.npz", "--record", "counts")
    assert "not recorded" in " ".join(outcome.err.split())
    assert "accuracy 1" not in outcome.out


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (np.array(["cat", "dog", "cat", "cow"]), "integers"),
        (np.zeros((4, 10), int), "one integer for each of 4 samples"),
        (np.arange(5), "one integer for each of 4 samples"),
        (np.full(4, 99), "holds 99 to 99, the network has classes 0 to"),
        (np.full(4, -1), "holds -1 to -1"),
    ],
)
def test_labels_that_cannot_be_used_are_named(
    neurodeploy, golden: Path, labelled, tmp_path: Path, label, words: str
) -> None:
    line = ("simulate", golden / DENSE, "-i", labelled(label), "-o", tmp_path / "out.npz")
    outcome = neurodeploy(*line)
    assert outcome.code == 0
    said = " ".join(outcome.err.split())
    assert "warning: no accuracy, though there are labels" in said
    assert words in said
    assert json.loads(neurodeploy(*line, "--json").out)["accuracy"] is None


def test_a_run_stands_for_the_files_in_it(
    neurodeploy, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        lava_simulator, "LavaSimulator", lambda net, **_: EventSimulator(netx.read(net))
    )
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(golden / DENSE, run / "network.net")
    inputs = np.random.default_rng(0).integers(0, 2, (2, 4, 24))
    np.savez(run / "samples.npz", input=inputs)
    for command, *rest in (
        ("simulate", "-i", run, "-o", tmp_path / "out.npz"),
        ("simulate", "-i", run / "network.net", "-o", tmp_path / "out.npz"),
        ("verify", "-i", run),
        ("report", "-i", run),
        ("inspect",),
        ("fit",),
        ("export", "--step", tmp_path / "step.onnx"),
    ):
        outcome = neurodeploy(command, run, *rest)
        assert outcome.code == 0, outcome.err
        assert neurodeploy(command, run / "samples.npz", *rest).code == 0
    outcome = neurodeploy("inspect", tmp_path)
    assert outcome.code == 1
    assert f"{tmp_path}: no network.net in this directory" in outcome.errors[0]
    assert f"neurodeploy deploy {tmp_path}" in outcome.errors[0]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((5, 24), "Still images have no T axis: show each in T steps, numpy.repeat(input[:, None]"),
        ((5, 7, 25), "(samples, T, 24) is required."),
        ((5, 7, 1, 2, 24), "(samples, T, 24) is required."),
    ],
)
@pytest.mark.parametrize("command", ["simulate", "report"])
def test_errors_show_the_shape_and_the_file(
    neurodeploy, golden: Path, samples, tmp_path: Path, command: str, shape, words: str
) -> None:
    source = samples(np.ones(shape, int))
    rest = ("-o", tmp_path / "out.npz") if command == "simulate" else ()
    outcome = neurodeploy(command, golden / DENSE, "-i", source, *rest)
    assert outcome.code == 1
    assert f"{source}: 'input': shape {shape}, (samples, T, 24)" in outcome.errors[0]
    assert words in outcome.errors[0]


def resealed(table: dict[str, Any]) -> str:
    """Return a changed certificate as somebody would forge it, with a hash of its own content."""
    rest = {key: value for key, value in table.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return json.dumps({**rest, "sha256": hashlib.sha256(text.encode()).hexdigest()})


@pytest.mark.lava
@pytest.mark.parametrize("options", [(), ("--stream", "--steps", "9")])
def test_a_certificate_of_verify_holds_until_something_changes(
    neurodeploy, golden: Path, samples, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Written and checked on real Lava, in both kinds of time."""
    inputs = np.random.default_rng(3).integers(0, 2, (2, 6, 24))
    source, path = samples(inputs), tmp_path / "certificate.json"
    net = golden / DENSE
    run = ("verify", net, "-i", source)
    outcome = neurodeploy(*run, *options, "--write-certificate", path)
    assert (outcome.code, outcome.err) == (0, f"wrote {path}\n")
    table = json.loads(path.read_text())
    assert table["result"] == {
        "compared_with": "real Lava",
        "differing": 0,
        "first_difference": None,
    }
    assert {"Lava: lava-nc", "Lava: lava-dl", "llvmlite"} <= set(table["versions"])
    outcome = neurodeploy(*run, "--certificate", path)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("holds: 01_dense_basic.net")
    table["recording"]["sha256"] = "0" * 64
    path.write_text(resealed(table))
    outcome = neurodeploy(*run, "--certificate", path, "--json")
    assert outcome.code == 1
    assert [one.split(" ")[:2] for one in json.loads(outcome.out)["differences"]] == [
        ["recording:", "sha256"]
    ]
    inputs[0, 0, 0] ^= 1
    outcome = neurodeploy("verify", net, "-i", samples(inputs), "--certificate", path)
    assert outcome.code == 1
    assert "made on other samples than" in outcome.errors[0]
    assert "nothing was run. input: sha256" in outcome.errors[0]


def test_a_certificate_of_a_difference_is_written_and_checked_as_one(
    neurodeploy, golden: Path, samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_simulator, "LavaSimulator", FaultyReference)
    monkeypatch.setattr(certificate, "LavaSimulator", FaultyReference)
    source, path = samples(np.random.default_rng(4).integers(0, 2, (2, 6, 24))), tmp_path / "c.json"
    run = ("verify", golden / DENSE, "-i", source)
    assert neurodeploy(*run, "--write-certificate", path).code == 1
    outcome = neurodeploy(*run, "--certificate", path)
    assert outcome.code == 1
    assert "holds, and says that values differ. dense_1: spikes differ" in outcome.errors[0]


def test_a_certificate_is_checked_as_it_says_and_replaces_no_input(
    neurodeploy, golden: Path, samples, tmp_path: Path
) -> None:
    source, path = samples(np.ones((1, 4, 24), np.int32)), tmp_path / "certificate.json"
    net, inputs = golden / DENSE, np.ones((1, 4, 24), np.int32)
    graph = netx.read(net)
    recording = EventSimulator(graph).run(inputs)
    Certificate.of(net, source, inputs, recording, CertifiedRun.of(graph, 4)).save(path)
    run = ("verify", net, "-i", source, "--certificate", path)
    outcome = neurodeploy(*run)
    assert (outcome.code, outcome.err) == (0, ""), "no Lava is needed"
    outcome = neurodeploy(*run, "--window", 4)
    assert (outcome.code, "says itself how" in outcome.err) == (2, True)
    outcome = neurodeploy(*run, "--timeout", 5)
    assert (outcome.code, "which did not run" in outcome.err) == (2, True)
    before = path.read_bytes()
    outcome = neurodeploy(*run, "--write-certificate", path)
    assert outcome.code == 1
    assert "is also" in outcome.errors[0]
    assert path.read_bytes() == before
    other = tmp_path / "other.net"
    other.write_bytes(net.read_bytes() + b"\0")
    outcome = neurodeploy("verify", other, "-i", source, "--certificate", path)
    assert outcome.code == 1
    assert "certificate.json: made of another file than" in outcome.errors[0]
    assert "nothing was run. network: sha256" in outcome.errors[0]
    assert "('01_dense_basic.net')" in outcome.errors[0]
    table = json.loads(path.read_text())
    table["versions"]["llvmlite"] = "0.1"
    path.write_text(resealed(table))
    outcome = neurodeploy(*run)
    assert outcome.code == 0
    assert outcome.err.startswith("other versions: llvmlite: 0.1 in the certificate, ")
    outcome = neurodeploy(*run, "--json")
    assert [one[:12] for one in json.loads(outcome.out)["other_versions"]] == ["llvmlite: 0."]


def test_the_schema_of_certificates_is_printed_without_a_network(neurodeploy) -> None:
    outcome = neurodeploy("verify", "--certificate-schema")
    assert outcome.code == 0
    assert json.loads(outcome.out)["title"] == "neurodeploy certificate"
