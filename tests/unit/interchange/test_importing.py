"""Networks of other frameworks against the spikes that those frameworks recorded."""

from __future__ import annotations

import numpy as np
import pytest
from golden_networks import EXACT, GOLDEN

import neurodeploy as nd
from neurodeploy.errors import InterchangeError


def recorded(case: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The input of a case, and what its framework sent by population."""
    with np.load(GOLDEN / f"{case}.npz") as arrays:
        sent = {
            key.split("/", 1)[1]: arrays[key]
            for key in arrays.files
            if key.startswith(("spikes/", "voltage/"))
        }
        return arrays["input"], sent


@pytest.mark.parametrize("case", EXACT)
def test_every_spike_is_the_frameworks(case: str) -> None:
    imported = nd.import_nir(GOLDEN / f"{case}.nir", **EXACT[case])
    inputs, sent = recorded(case)
    run = imported.run(inputs)
    assert set(sent) <= set(run)
    for name, theirs in sent.items():
        if run[name].dtype == np.uint8:
            np.testing.assert_array_equal(run[name], theirs, err_msg=name)
        else:
            np.testing.assert_allclose(run[name], theirs, atol=1e-5, rtol=0, err_msg=name)
    agreement = imported.compare(inputs, sent).agreement
    assert agreement is not None
    assert agreement.is_equal
    assert set(imported.notes.values()) == {"exact"}


@pytest.mark.parametrize(
    ("case", "options", "differing"),
    [
        ("03_snntorch_leaky_subtract", {"reset": "subtract"}, (128, 78)),
        ("13_sinabs_lif_multispike", {"convention": "sinabs", "reset": "subtract"}, (186, 34)),
        ("14_rockpool_lif", {"convention": "rockpool", "dt": 1e-3}, (145, 29)),
    ],
)
def test_soft_reset_is_refused_or_its_price_reported(
    case: str, options: dict, differing: tuple[int, int]
) -> None:
    with pytest.raises(InterchangeError) as refused:
        nd.import_nir(GOLDEN / f"{case}.nir", **options)
    for name in recorded(case)[1]:  # every layer is named in one error
        assert f"{name}: " in str(refused.value)
    assert "approximate={'soft-reset'}" in str(refused.value)

    imported = nd.import_nir(GOLDEN / f"{case}.nir", approximate={"soft-reset"}, **options)
    agreement = imported.compare(*recorded(case)).agreement
    assert agreement is not None
    assert tuple(layer.differing for layer in agreement.layers) == differing
    assert agreement.unexplained is not None
    assert all(note.startswith("soft-reset") for note in imported.notes.values())


def test_a_file_that_hides_its_soft_reset_is_found_out_by_its_spikes() -> None:
    case = "03_snntorch_leaky_subtract"
    agreement = nd.import_nir(GOLDEN / f"{case}.nir").compare(*recorded(case)).agreement
    assert agreement is not None
    assert agreement.unexplained == (0, 1, "1")
    assert "first difference: sample 0, step 1" in agreement.describe()


def test_ties_need_the_frameworks_own_comparison() -> None:
    case = "06_spikingjelly_ties"
    imported = nd.import_nir(GOLDEN / f"{case}.nir", convention="snntorch")
    agreement = imported.compare(*recorded(case)).agreement
    assert agreement is not None
    assert sum(layer.differing for layer in agreement.layers) == 105
    assert agreement.unexplained is None  # float32 could have decided these


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        ("13_sinabs_lif_multispike", {}, "does not tell the width of a time step"),
        ("09_norse_lifbox", {"dt": 1e-3}, "less than a step of 0.001 s"),
        ("01_snntorch_leaky_dense", {"convention": "snntorck"}, "allowed are euler"),
        ("01_snntorch_leaky_dense", {"dt": -1.0}, "above 0"),
        ("01_snntorch_leaky_dense", {"reset": "none"}, "'zero' or 'subtract'"),
        ("01_snntorch_leaky_dense", {"approximate": ["soft"]}, "allowed are soft-reset"),
    ],
)
def test_refusals(case: str, options: dict, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        nd.import_nir(GOLDEN / f"{case}.nir", **options)


def test_inputs_of_another_size_are_refused() -> None:
    imported = nd.import_nir(GOLDEN / "01_snntorch_leaky_dense.nir")
    with pytest.raises(InterchangeError, match=r"\(samples, T, 12\)"):
        imported.run(np.zeros((2, 5, 13)))
    with pytest.raises(InterchangeError, match="numbers are required"):
        imported.run(np.full((1, 1, 12), "x"))
    assert imported.run(np.zeros((0, 5, 12)))["1"].shape == (0, 5, 24)


def test_many_samples_go_in_parts_with_the_same_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    case = "05_snntorch_rleaky"
    inputs, sent = recorded(case)
    monkeypatch.setattr("neurodeploy.interchange.floating.VALUES_MAX", 24 * 20)
    run = nd.import_nir(GOLDEN / f"{case}.nir").run(inputs)
    for name, theirs in sent.items():
        np.testing.assert_array_equal(run[name], theirs)


def test_a_threshold_by_pixel_is_not_taken_for_one_by_channel() -> None:
    graph = {
        "type": "NIRGraph",
        "nodes": {
            "in": {"type": "Input", "shape": np.array([1, 2, 2])},
            "conv": {"type": "Conv2d", "weight": np.ones((4, 1, 1, 1)), "bias": np.zeros(4),
                     "stride": 1, "padding": 0, "dilation": 1, "groups": 1},
            "if": {"type": "IF", "r": 1e4, "v_threshold": np.array([[[0.5, 1.5], [2.5, 3.5]]])},
            "out": {"type": "Output", "shape": np.array([4, 2, 2])},
        },
        "edges": [("in", "conv"), ("conv", "if"), ("if", "out")],
    }  # fmt: skip
    with pytest.raises(InterchangeError, match="if: v_threshold or r differs inside a channel"):
        nd.import_nir(graph)


@pytest.mark.parametrize("stride", [1, 10**9])
def test_a_padding_that_asks_for_all_memory_is_refused(stride: int) -> None:
    graph = {
        "type": "NIRGraph",
        "nodes": {
            "in": {"type": "Input", "shape": np.array([1, 2, 2])},
            "pool": {"type": "SumPool2d", "kernel_size": 2, "stride": stride, "padding": 10**9},
            "if": {"type": "IF", "r": 1e4, "v_threshold": 1.0},
            "out": {"type": "Output", "shape": np.array([1, 2, 2])},
        },
        "edges": [("in", "pool"), ("pool", "if"), ("if", "out")],
    }
    with pytest.raises(InterchangeError, match=r"pool: [0-9]+ values a step, padding included"):
        nd.import_nir(graph)
