"""The report: JSON, tables, and the energies of the worked example on a whole network."""

from __future__ import annotations

import copy
import hashlib
import json

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from neurodeploy.energy.estimates import network_energy
from neurodeploy.energy.presets import EnergyPreset
from neurodeploy.errors import DataError
from neurodeploy.reports.json_form import schema
from neurodeploy.reports.numbers import format_count, format_energy
from neurodeploy.reports.pages.tables import terminal
from neurodeploy.reports.report_builder import PRESETS, report
from neurodeploy.simulation.recording import Recording


def test_json_has_the_fields_of_the_schema(make_report):
    document = json.loads(json.dumps(make_report().to_json()))
    assert {
        "network", "workload", "layers", "totals", "per_sample", "sigma", "ann", "tiers",
        "assumptions", "warnings", "uncounted_ops", "accuracy",
    } <= set(document)  # fmt: skip
    assert document["workload"] == {
        "samples": 1, "T": 10, "batch": 1, "input_kind": "binary", "changes_over_time": True
    }  # fmt: skip
    assert {
        "name", "type", "kind", "events", "sops", "sops_stored", "dense_exact", "dense_macs",
        "neurons", "updates_dense", "updates_active", "spikes", "zero_weight_fraction",
    } <= set(document["layers"][0])  # fmt: skip
    for tier in document["tiers"]:
        assert tier["low"] <= tier["nominal"] <= tier["high"]
        assert tier["excludes"]
        assert sum(tier["breakdown"].values()) == pytest.approx(tier["nominal"])


def test_json_counts_are_integers_over_all_samples(make_report):
    document = make_report().to_json()
    assert document["totals"] == {
        "events": 912,
        "sops": 201_984,
        "sops_stored": 201_984,
        "sops_ac": 201_984,
        "sops_mac": 0,
        "sops_cached": 201_984,
        "dense_exact": 203_264,
        "dense_macs": 203_264,
        "neurons": 266,
        "updates_dense": 2660,
        "updates_active": 2660,
        "spikes": 138,
        "bias_adds": 0,
        "messages": 912,
    }


@pytest.mark.parametrize(
    ("preset", "nominal", "ann"),
    [
        ("cmos45_fp32", 196_539.8, 935_014.4),
        ("cmos45_int8", 21_276.2, 60_979.2),
        ("sram45 + cmos45_int8", 2_703_371.03 + 21_276.2, 1_169_003.53 + 60_979.2),
        ("loihi1_davies2018", 4_983_832.8, None),
        ("loihi1_sanafe", 7_474_875.4, None),
    ],
)
def test_energies_of_the_worked_example(make_report, preset, nominal, ann):
    found = {one.network.preset: one for one in make_report().tiers}[preset]
    assert round(found.network.nominal, 2) == round(nominal, 2)
    assert (None if found.ann is None else round(found.ann.nominal, 2)) == ann


def test_bounds_of_the_chip(make_report):
    """Low: idle neurons. High: all active, mean hops, one chip at 104 mW for ten milliseconds."""
    davies = {one.network.preset: one.network for one in make_report().tiers}["loihi1_davies2018"]
    assert round(davies.low, 2) == 4_906_692.8
    hops = 912 * (2.625 * 3.0 + 1.25 * 4.0)
    assert round(davies.high, 2) == round(4_983_832.8 + hops + 1.04e9, 2)


def test_the_first_preset_is_the_default(make_report):
    assert PRESETS[0] == "cmos45_int8"
    assert make_report().tiers[0].network.preset == "cmos45_int8"


def test_memory_needs_a_preset_of_arithmetic(make_report):
    with pytest.raises(DataError, match="tier A"):
        network_energy(make_report().counts, EnergyPreset.load("sram45"))


def test_names_the_file_and_its_hash(make_report, tmp_path):
    path = tmp_path / "some.net"
    path.write_bytes(b"content")
    network = make_report(network_file=path).to_json()["network"]
    assert network["file"] == str(path)
    assert network["sha256"] == hashlib.sha256(b"content").hexdigest()
    with pytest.raises(DataError, match="cannot be read"):
        make_report(network_file=tmp_path / "missing.net")


def test_unknown_options_are_refused(make_report):
    with pytest.raises(TypeError, match="'acuracy'"):
        make_report(acuracy={"integer": 0.9})


def test_the_terminal_shows_counts_and_energies(make_report):
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(terminal(make_report()))
    text = capture.get()
    assert "201,984" in text
    assert "21.3 nJ" in text


@pytest.mark.parametrize(
    ("picojoules", "text"),
    [
        (0, "0.00 pJ"), (9.994, "9.99 pJ"), (9.996, "10.0 pJ"), (999.0, "999 pJ"),
        (21_276.2, "21.3 nJ"), (2.703e6, "2.70 µJ"), (1.04e9, "1.04 mJ"),
    ],
)  # fmt: skip
def test_energies_have_three_digits(picojoules, text):
    assert format_energy(picojoules) == text


def test_counts_have_separators():
    assert [format_count(one) for one in (1234567, 12.34, 1234.5, None)] == [
        "1,234,567",
        "12.3",
        "1,234",
        "not known",
    ]


def test_neurobench_metrics_of_the_worked_example(make_report):
    """912 events; 138 of 2660 outputs; 266 states, 203,264 weights of one bit and sign."""
    document = make_report().to_json()
    found = document["neurobench"]
    assert found.pop("note").startswith("Effective_ACs and Effective_MACs are split by the values")
    assert found == {
        "Effective_ACs": 201_984.0,
        "Effective_MACs": 0.0,
        "Dense": 2_032_640.0,
        "ConnectionSparsity": 0.0,
        "ActivationSparsity": (2660 - 138) / 2660,
        "MembraneUpdates": None,
        "Footprint": 4 * (203_264 + 266),
        "ParameterCount": 203_264,
        "version": "2.3.0",
    }
    assert document["network"]["weight_bytes"] == 203_264 * 2 // 8


def test_spread_over_samples_is_that_of_the_population(mlp, mlp_run):
    """Two samples: one as in the example, one silent."""
    inputs, recording = mlp_run
    both = Recording.from_spikes(
        recording.layers,
        tuple(np.concatenate([one, np.zeros_like(one)]) for one in recording.spikes),
    )
    document = report(mlp, np.concatenate([inputs, np.zeros_like(inputs)]), both).to_json()
    first, second = document["layers"]
    assert first["sops"] == 200_704
    assert first["per_sample"]["sops"] == first["per_sample_std"]["sops"] == 100_352.0
    assert second["per_sample"]["spikes"] == second["per_sample_std"]["spikes"] == 5.0
    assert document["per_sample"]["sops_std"] == 100_992.0


def test_reports_follow_their_published_schema(make_report):
    """Layers, totals and energies are closed: a new or renamed field must be put there."""
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    document = json.loads(
        json.dumps(make_report(accuracy={"float": 0.5, "deployed": 0.4}).to_json())
    )
    validator.validate(document)
    document["layers"][0]["sops"] = 0.5
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document)


def places(value, path=()):
    """Yield the path of every value inside tables and lists."""
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key), entry
        if isinstance(entry, dict | list):
            yield from places(entry, (*path, key))


def shortened(value):
    """Keep the first entry of each list: the others are of the same type."""
    if isinstance(value, dict):
        return {key: shortened(entry) for key, entry in value.items()}
    return [shortened(entry) for entry in value[:1]] if isinstance(value, list) else value


def has_names_of_data(path) -> bool:
    """Return whether keys of a table are names, such as those of energies or stages."""
    return path == ("per_sample",) or path[-1:] in (
        ("per_sample_std",), ("breakdown",), ("accuracy",), ("loihi2_measured",),
    )  # fmt: skip


def test_the_schema_refuses_missing_unknown_and_wrong_values(make_report):
    """Tables have all of their keys and no others; counts are integers of at least 0."""
    validator = jsonschema.Draft202012Validator(schema())
    document = shortened(json.loads(json.dumps(make_report(accuracy={"float": 0.5}).to_json())))
    missing = object()

    def accepts(path, value) -> bool:
        changed = copy.deepcopy(document)
        table = changed
        for key in path[:-1]:
            table = table[key]
        if value is missing:
            del table[path[-1]]
        else:
            table[path[-1]] = value
        return validator.is_valid(changed)

    for path, value in places(document):
        if "loihi2_measured" in path[:-1]:
            continue
        if isinstance(path[-1], str) and not has_names_of_data(path[:-1]):
            assert not accepts(path, missing), path
            assert not accepts((*path[:-1], f"{path[-1]}_x"), 1), path
        assert not accepts(path, 1 if isinstance(value, bool) else True), path
        assert not accepts(path, [["x"]]), path
        if path[0] in ("totals", "fit") and type(value) is int:
            assert not accepts(path, -1), path
            assert not accepts(path, 0.5), path
    assert not accepts(("tiers", 0, "tier"), "D")
    assert not accepts(("tiers", 0, "evidence"), "rumour")
