"""Energy: worked examples whose every number is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neurodeploy.energy.estimates import ann_energy, estimate_energy
from neurodeploy.energy.formulas import (
    LayerAccesses,
    Operations,
    access_energy,
    ann_memory_terms,
    arithmetic_terms,
    chip_terms,
    memory_terms,
)
from neurodeploy.energy.presets import (
    EnergyPreset,
    Tier,
    list_presets,
)
from neurodeploy.errors import DataError, TargetError
from neurodeploy.ir.graphs import AnnLayerMacs, AnnMacs
from neurodeploy.ir.integer_layers import NeuronModel

# 784-256-10 LIF network, T = 10, all neurons active
LAYERS = [
    {"sops": 200_704, "weights": 784 * 256, "events": 784, "source_neurons": 784, "neurons": 256},
    {"sops": 1280, "weights": 2560, "events": 128, "source_neurons": 256, "neurons": 10},
]
TWIN = AnnMacs(
    layers=tuple(
        AnnLayerMacs(
            name=f"dense{i}",
            type="dense",
            macs_standard=inputs * outputs,
            macs_border_exact=inputs * outputs,
            weights=inputs * outputs,
            inputs=inputs,
            outputs=outputs,
        )
        for i, (inputs, outputs) in enumerate([(784, 256), (256, 10)])
    )
)


def cents(value: float) -> float:
    """The examples are given to a hundredth of a picojoule."""
    return round(value, 2)


class TestArithmetic:
    @pytest.mark.parametrize(
        ("name", "network", "ann"),
        [("cmos45_fp32", 196_539.8, 935_014.4), ("cmos45_int8", 21_276.2, 60_979.2)],
    )
    def test_totals(self, name, network, ann):
        preset = EnergyPreset.load(name)
        done = Operations(steps=10, sops_ac=201_984, updates={NeuronModel.LIF: 2660}, spikes=138)
        terms = arithmetic_terms(preset, done)
        assert cents(sum(terms.values())) == network
        twin = ann_energy(TWIN, preset)
        assert twin is not None
        assert (cents(twin.low), cents(twin.nominal), cents(twin.high)) == (ann, ann, ann)

    def test_graded_input_multiplies(self):
        preset = EnergyPreset.load("cmos45_int8")
        graded = arithmetic_terms(preset, Operations(steps=10, sops_mac=10))
        assert cents(sum(graded.values())) == 3.0


class TestMemory:
    preset = EnergyPreset.load("sram45")

    @pytest.mark.parametrize(
        ("kib", "energy"),
        [
            (1, 10), (8, 10), (16, 14.142), (32, 20), (64, 27.595),
            (196, 46.404), (512, 72.478), (1024, 100), (4096, 200),
        ],
    )  # fmt: skip
    def test_energy_of_an_access(self, kib, energy):
        assert round(access_energy(self.preset, kib * 1024), 3) == energy

    def test_beyond_the_limit_it_is_dram(self):
        assert access_energy(self.preset, 2048, on_chip_limit=1024) == 1300

    def test_terms_of_the_spiking_network(self):
        first, second = (
            memory_terms(self.preset, LayerAccesses(updates=layer["neurons"] * 10, **layer))
            for layer in LAYERS
        )
        assert {name: cents(value) for name, value in first.items()} == {
            "weights": 1_164_171.03,
            "accumulators": 1_505_280,
            "states": 19_200,
            "event queues": 2450,
        }
        assert {name: cents(value) for name, value in second.items()} == {
            "weights": 1600,
            "accumulators": 9600,
            "states": 750,
            "event queues": 320,
        }
        assert cents(sum(first.values()) + sum(second.values())) == 2_703_371.03

    @pytest.mark.parametrize(("has_reuse", "total"), [(True, 1_169_003.53), (False, 1_421_783.53)])
    def test_totals_of_the_ann(self, has_reuse, total):
        terms = [ann_memory_terms(self.preset, row, has_reuse=has_reuse) for row in TWIN.layers]
        assert cents(sum(sum(one.values()) for one in terms)) == total

    def test_ann_range_spans_reuse(self):
        energy = ann_energy(TWIN, self.preset, arithmetic=EnergyPreset.load("cmos45_int8"))
        assert energy is not None
        assert cents(energy.low) == cents(energy.nominal) == 1_169_003.53 + 60_979.2
        assert cents(energy.high) == 1_421_783.53 + 60_979.2

    def test_memory_needs_arithmetic(self):
        with pytest.raises(DataError, match="tier A"):
            ann_energy(TWIN, self.preset)


class TestChip:
    davies = EnergyPreset.load("loihi1_davies2018")
    sanafe = EnergyPreset.load("loihi1_sanafe")

    @pytest.mark.parametrize(("active", "total"), [(2660, 4_983_832.8), (0, 4_906_692.8)])
    def test_davies(self, active, total):
        terms = chip_terms(
            self.davies,
            sops_dense=201_984,
            updates_dense=2660,
            updates_active=active,
            spikes=138,
            messages=912,
        )
        assert cents(sum(terms.values())) == total

    def test_sanafe(self):
        terms = chip_terms(
            self.sanafe,
            sops_dense=201_984,
            updates_dense=2660,
            updates_active=2660,
            spikes=138,
            messages=912,
        )
        assert cents(sum(terms.values())) == 7_474_875.4

    @pytest.mark.parametrize(
        ("form", "hops", "total"),
        [("sops_dense", 0, 1716.0), ("sops_conv", 0, 1509.0), ("sops_dense", 6, 1741.2)],
    )
    def test_sanafe_small(self, form, hops, total):
        """4 inputs, three spike once, 6 targets, 2 steps, one destination core."""
        load = {"sops_dense": 0.0, "sops_conv": 0.0, form: 18.0}
        terms = chip_terms(
            self.sanafe,
            **load,
            updates_dense=12,
            updates_active=6,
            spikes=0,
            messages=3,
            hops=(0, hops),
        )
        assert cents(sum(terms.values())) == total

    def test_static_energy_in_real_time(self):
        """104 mW for 10 ms is 1.04 mJ."""
        static = estimate_energy(Operations(steps=10), self.davies).static
        assert static is not None
        assert static.energy == 1.04e9

    def test_an_ann_has_no_energy_there(self):
        assert ann_energy(TWIN, self.davies) is None


class TestPresets:
    @pytest.mark.parametrize("name", list_presets())
    def test_every_constant_has_unit_source_and_evidence(self, name):
        preset = EnergyPreset.load(name)
        assert preset.name == name
        assert all(one.unit and one.source for one in preset.constants.values())

    def test_tier_a_has_the_seven_of_the_literature(self):
        found = {
            name: (EnergyPreset.load(name).value("mac"), EnergyPreset.load(name).value("ac"))
            for name in list_presets()
            if EnergyPreset.load(name).tier is Tier.ARITHMETIC
        }
        assert found == {
            "cmos45_fp32": (4.6, 0.9),
            "cmos45_fp16": (1.5, 0.4),
            "cmos45_int32": (3.2, 0.1),
            "cmos45_int8": (0.3, 0.1),
            "cmos45_int8_narrow": (0.23, 0.03),
            "cmos7_int8": (0.1, 0.03),
            "cmos7_fp32": (1.69, 0.38),
        }

    def test_evidence_is_the_weakest_of_the_energies(self):
        assert EnergyPreset.load("cmos45_int8").evidence == "secondary"
        assert EnergyPreset.load("cmos7_int8").evidence == "unverified"

    def test_the_weakest_evidence_counts_where_grades_differ(self):
        preset = EnergyPreset.load("cmos45_int8")
        mac, ac = preset.constants["mac"], preset.constants["ac"]
        mixed = {"mac": replace(mac, evidence="source"), "ac": replace(ac, evidence="unverified")}
        assert replace(preset, constants=mixed).evidence == "unverified"
        width = replace(ac, unit="bit")  # an assumption, no energy
        assert replace(preset, constants=mixed | {"ac": width}).evidence == "source"

    def test_an_unknown_constant_is_refused_with_those_there_are(self):
        with pytest.raises(TargetError, match="no constant 'mag', there are mac, ac"):
            EnergyPreset.load("cmos45_int8").value("mag")

    def test_names_what_there_is(self):
        with pytest.raises(TargetError, match="cmos45_int8"):
            EnergyPreset.load("cmos3")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("name = ", "not valid TOML"),
            ('name = "x"', "exactly the keys"),
            (
                'name="x"\ntier="Z"\ndescription=""\ntechnology=""\n[constants]',
                "tier = \"Z\", allowed: 'A', 'B', 'C'",
            ),
            ('name="x"\ntier="A"\ndescription=""\ntechnology=""\n[constants]', "mac, ac"),
            (
                'name="x"\ntier="A"\ndescription=""\ntechnology=""\n[constants.mac]\nvalue=-1\n'
                'unit="pJ"\nsource="s"\nevidence="source"',
                "at least 0",
            ),
            (
                'name="x"\ntier="A"\ndescription=""\ntechnology=""\n[constants.mac]\nvalue=1\n'
                'unit="pJ"\nsource="s"\nevidence="hearsay"',
                "hearsay",
            ),
        ],
    )
    def test_refuses_malformed_files(self, tmp_path, text, message):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(TargetError, match=message):
            EnergyPreset.load(path)


@pytest.mark.parametrize(("measured", "ending"), [(None, "zero"), (1000.0, "zero, as measured")])
def test_the_basis_of_an_ann_says_whether_its_zeros_were_measured(measured, ending):
    rows = tuple(replace(row, macs_nonzero=row.macs_standard // 2) for row in TWIN.layers)
    energy = ann_energy(AnnMacs(layers=rows, macs_effective=measured), EnergyPreset.load("sram45"),
                        arithmetic=EnergyPreset.load("cmos45_int8"))  # fmt: skip
    assert energy is not None
    assert energy.basis.endswith(f"low: also no products with {ending}")
