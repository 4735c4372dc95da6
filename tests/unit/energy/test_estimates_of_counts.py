"""Energies from totals: the worked example in one call, placements, measured counters."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import neurodeploy as nd
from neurodeploy.counting.fan_out import conv_fan_out
from neurodeploy.counting.synapse_counts import InputKind
from neurodeploy.energy import other_machines
from neurodeploy.energy.estimates import MESH_HOPS_EAST_WEST, MESH_HOPS_NORTH_SOUTH, fastest_steps
from neurodeploy.energy.formulas import LayerAccesses, operations_of
from neurodeploy.energy.measured import Measured
from neurodeploy.energy.other_machines import measured_runs, platform_figures
from neurodeploy.errors import DataError, TargetError
from neurodeploy.files import hardware_path

EXAMPLE = nd.Operations(
    steps=10,
    sops_ac=201_984,
    updates={"lif": 2660},
    updates_active=2660,
    spikes=138,
    messages=912,
    accesses=(
        LayerAccesses(
            sops=200_704, weights=200_704, events=784, source_neurons=784, neurons=256, updates=2560
        ),
        LayerAccesses(
            sops=1280, weights=2560, events=128, source_neurons=256, neurons=10, updates=100
        ),
    ),
)


def preset(name: str) -> nd.EnergyPreset:
    return nd.EnergyPreset.load(name)


@pytest.mark.parametrize(
    ("name", "nominal"),
    [
        ("cmos45_fp32", 196_539.8),
        ("cmos45_int8", 21_276.2),
        ("sram45", 2_703_371.03 + 21_276.2),
        ("loihi1_davies2018", 4_983_832.8),
        ("loihi1_sanafe", 7_474_875.4),
    ],
)
def test_totals_alone_give_every_tier(name, nominal):
    energy = nd.estimate_energy(EXAMPLE, preset(name), arithmetic=preset("cmos45_int8"))
    assert round(energy.nominal, 2) == round(nominal, 2)
    assert sum(energy.breakdown.values()) == pytest.approx(energy.nominal)
    assert energy.low <= energy.nominal <= energy.high


def test_static_energy_stands_apart_and_follows_step_time_and_chips():
    energy = nd.estimate_energy(EXAMPLE, preset("loihi1_davies2018"))
    assert energy.static is not None
    assert (energy.static.energy, energy.static.is_real_time) == (1.04e9, True)
    fast = nd.estimate_energy(
        EXAMPLE, preset("loihi1_davies2018"), system=nd.System(step_time_us=10, chips=3)
    )
    assert fast.static is not None
    assert fast.static.energy == 104 * 10 * 10 * 3 * 1e3
    assert fast.nominal == energy.nominal
    assert fast.total == fast.nominal + fast.static.energy
    assert "3 chips powered for 0.01 ms a step" in fast.basis


def test_a_placement_adds_messages_and_hops():
    """Two cores a layer: 1824 messages; two and one hop each."""
    system = nd.System(hops_east_west=2, hops_north_south=1, destination_cores=2)
    terms = nd.estimate_energy(EXAMPLE, preset("loihi1_sanafe"), system=system).breakdown
    assert terms["messages"] == pytest.approx(1824 * 111.0)
    assert terms["hops"] == pytest.approx(1824 * (2 * 3.0 + 4.2))


@pytest.mark.parametrize(
    "options",
    [
        {"chips": 0},
        {"step_time_us": -1},
        {"hops_east_west": float("nan")},
        {"destination_cores": 0},
    ],
)
def test_refuses_systems_that_cannot_be(options):
    with pytest.raises(DataError, match="system: "):
        nd.System(**options)


def test_memory_needs_the_size_of_every_layer():
    bare = nd.Operations(steps=1, sops_ac=1)
    with pytest.raises(DataError, match="accesses"):
        nd.estimate_energy(bare, preset("sram45"), arithmetic=preset("cmos45_int8"))


class TestMeasured:
    @pytest.fixture
    def write(self, tmp_path):
        def write(**table):
            path = tmp_path / "profile.json"
            path.write_text(json.dumps({"source": "a chip", "samples": 2, **table}))
            return path

        return write

    def test_counters_take_the_place_of_counts(self, write):
        """Lists are added up, totals divided by the samples."""
        path = write(syn_ops=[100_000, [300_000]], dendrite_updates=10_640, axon_out=2000)
        found = Measured.load(path).apply(EXAMPLE)
        assert (found.sops_stored, found.updates_dense, found.messages) == (200_000, 5320, 1000)
        terms = nd.estimate_energy(found, preset("loihi1_davies2018")).breakdown
        assert terms["synaptic operations"] == 200_000 * 23.6
        assert terms["neuron updates"] == 5320 * 81
        assert terms["messages"] == 1000 * 1.7

    def test_powers_give_the_measured_energy(self, write):
        """0.679 W for 2 samples in 40 ms are 13.58 mJ a sample."""
        found = Measured.load(write(static_power_w=0.232, total_power_w=0.679, seconds=0.04))
        assert found.total_pj == pytest.approx(13.58e9)
        assert found.static_pj == pytest.approx(4.64e9)

    def test_a_report_says_both(self, write, make_report):
        document = make_report(measured=Measured.load(write(syn_ops=400_000))).to_json()
        assert document["measured"]["counters"] == {
            "syn_ops": {"measured": 200_000.0, "counted": 201_984.0}
        }
        tiers = {one["preset"]: one for one in document["tiers"]}
        davies = tiers["loihi1_davies2018"]
        assert davies["breakdown"]["synaptic operations"] == 200_000 * 23.6
        assert davies["low"] <= davies["nominal"]
        assert tiers["cmos45_int8"]["nominal"] == pytest.approx(21_276.2)
        assert any("in place of counts" in one for one in document["assumptions"])

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"syn_op": 1}, "unknown key 'syn_op'"),
            ({"syn_ops": -1}, "at least 0"),
            ({"syn_ops": "many"}, "a number or a list"),
            ({"syn_ops": 1, "samples": 0}, "samples = 0, it must be at least 1"),
            ({"syn_ops": 1, "source": ""}, "source is empty, text is required"),
            ({}, "nothing measured"),
            ({"total_power_w": 1}, "seconds"),
        ],
    )
    def test_refuses_what_is_no_measurement(self, write, table, message):
        with pytest.raises(DataError, match=message):
            Measured.load(write(**table))

    def test_refuses_other_files(self, tmp_path):
        path = tmp_path / "x.json"
        for content in ("[", "[1]", ""):
            path.write_text(content)
            with pytest.raises(DataError, match="json"):
                Measured.load(path)
        with pytest.raises(DataError, match="no such file"):
            Measured.load(tmp_path / "missing.json")


def test_the_fastest_step_is_barrier_and_busiest_core(make_report):
    """Davies: 113 ns, and 200,704 operations of 3.5 ns and 2560 updates of 8.4 ns in ten steps.

    Weights of one bit and sign: one core holds them.
    """
    report = make_report()
    expected = (113 + (200_704 * 3.5 + 2560 * 8.4) / 10) / 1000
    assert report.fastest_steps["loihi1_davies2018"] == pytest.approx(expected)
    static = report.to_json()["tiers"][-2]["static"]
    assert static["fastest_step_us"] == pytest.approx(expected)
    assert static["energy_at_fastest_step"] == pytest.approx(104 * expected * 10 * 1e3)
    cores = {"hidden": None, "output": 1}
    davies = preset("loihi1_davies2018")
    assert fastest_steps(report.counts, [davies], cores=cores) == {davies.name: None}


def test_other_machines_are_context():
    found = {one.name: one for one in platform_figures(EXAMPLE, 203_264)}
    assert found["TrueNorth"].energy == 26.0 * 201_984
    assert found["SpiNNaker"].energy == 13_300.0 * 201_984 + 26_000.0 * 2660
    assert (found["GPU"].energy, found["GPU"].is_ann) == (300.0 * 203_264, True)
    assert found["ODIN"].formula == "12.7 pJ · SOPs"
    assert all(one.source and one.evidence for one in found.values())
    lif, _ = measured_runs()
    assert lif["total_w"] == pytest.approx(
        lif["total_mj"] * lif["inferences_per_second"] / 1e3, 1e-3
    )


def test_single_layers_are_public():
    counted = nd.count_layer(np.eye(3, dtype=int), np.ones((1, 2, 3), int), kind=InputKind.BINARY)
    assert counted.sops.tolist() == [6]
    assert conv_fan_out(np.ones((1, 1, 3)), (1, 5), padding="same").dense_exact == 13


def test_the_lower_bound_of_a_chip_sends_each_message_to_one_core():
    """Where the copies go is an assumption: the nominal value has them, the lower bound has not."""
    davies = preset("loihi1_davies2018")
    operations = nd.Operations(steps=1, messages=10)
    energy = nd.estimate_energy(operations, davies, system=nd.System(destination_cores=3))
    assert energy.nominal == pytest.approx(3 * 10 * 1.7)
    assert energy.low == pytest.approx(10 * 1.7)


def test_the_evidence_of_two_presets_is_that_of_the_weaker_one():
    memory, numbers = preset("sram45"), preset("cmos7_int8")
    assert (memory.evidence, numbers.evidence) == ("secondary", "unverified")
    energy = nd.estimate_energy(EXAMPLE, memory, arithmetic=numbers)
    assert energy.evidence == "unverified"


@pytest.mark.parametrize(
    ("model", "macs", "acs"),
    [("if", 0, 1), ("lif", 1, 1), ("cuba", 2, 1), ("sigma_delta", 0, 3), ("resonate_fire", 4, 0)],
)
def test_operations_of_an_update_by_model(model, macs, acs):
    """MAC 0.3 pJ, AC 0.1 pJ; a resonator is two sums of two products, each onto the input."""
    energy = nd.estimate_energy(nd.Operations(steps=1, updates={model: 1}), preset("cmos45_int8"))
    assert energy.nominal == pytest.approx(0.3 * macs + 0.1 * acs)


@pytest.mark.parametrize("arithmetic", [None, "loihi1_davies2018", "sram45"])
def test_memory_of_totals_is_added_to_arithmetic_and_to_nothing_else(arithmetic):
    other = None if arithmetic is None else preset(arithmetic)
    with pytest.raises(DataError, match="'sram45' counts memory only"):
        nd.estimate_energy(EXAMPLE, preset("sram45"), arithmetic=other)


def test_a_platform_without_any_energy_is_refused(tmp_path, monkeypatch):
    (tmp_path / "context").mkdir()
    text = (hardware_path() / "context" / "platforms.toml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith("per_")]
    (tmp_path / "context" / "platforms.toml").write_text("\n".join(kept))
    monkeypatch.setattr(other_machines, "hardware_path", lambda: tmp_path)
    with pytest.raises(TargetError, match="per_sop, per_update or per_mac is needed"):
        platform_figures(EXAMPLE, 203_264)


def test_measured_operations_keep_the_counted_share_of_convolutions(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"source": "a chip", "samples": 1, "syn_ops": 1000}))
    counted = replace(EXAMPLE, sops_stored=500_000, sops_stored_conv=125_000)
    found = Measured.load(path).apply(counted)
    assert (found.sops_stored, found.sops_stored_conv) == (1000, 250)


def test_messages_cross_as_many_tiles_as_two_random_ones_lie_apart():
    """SANA-FE's mesh of Loihi is 8 tiles wide and 4 high."""
    wide, high = (np.abs(np.subtract.outer(np.arange(n), np.arange(n))).mean() for n in (8, 4))
    assert (wide, high) == (MESH_HOPS_EAST_WEST, MESH_HOPS_NORTH_SOUTH)


@pytest.mark.parametrize(
    "missing", ["time_synaptic_op", "time_update_active", "time_update_inactive", "time_barrier"]
)
def test_a_step_has_no_shortest_time_without_all_of_its_times(make_report, missing):
    davies = preset("loihi1_davies2018")
    constants = {name: one for name, one in davies.constants.items() if name != missing}
    partly = replace(davies, constants=constants)
    cores = {"hidden": 1, "output": 1}
    assert fastest_steps(make_report().counts, [partly], cores=cores) == {davies.name: None}


def test_operations_are_those_of_the_mean_sample(count_alike):
    """Samples that are alike cost what one does, memory accesses included."""
    one, three = (operations_of(count_alike(samples)) for samples in (1, 3))
    assert [access.updates for access in one.accesses] == [8, 8]
    assert one == three
