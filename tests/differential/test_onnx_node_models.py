"""Every model of onnx's own operator tests ends in a count, an incomplete count or a clear error.

Where onnx gives the definition of an operator as a second model, both have the same MACs.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import pytest

from neurodeploy.errors import OnnxError
from neurodeploy.onnx_models.macs import count_onnx_macs

pytestmark = pytest.mark.slow

WITHOUT_A_COUNT = {
    "AffineGrid": "its size is an input",
    "DFT": "its axis is an input",
    "STFT": "its frame length is an input",
    "SequenceMap": "its inputs have symbolic sizes",
}
"""Operators some of whose models leave open how much they multiply."""


def kind_of(model: onnx.ModelProto) -> object:
    """Return the features in which models differ by more than numbers and types."""
    nodes = [(node.op_type, *(entry.name for entry in node.attribute)) for node in model.graph.node]
    ranks = [len(info.type.tensor_type.shape.dim) for info in model.graph.input]
    return str((nodes, ranks))


@pytest.fixture(scope="module")
def models() -> dict[str, onnx.ModelProto]:
    """Return the models by name, each kind once, with the definitions of those that have one."""
    node = pytest.importorskip("onnx.backend.test.case.node")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, from the values that onnx computes
        cases = node.collect_testcases(None)
    every = {case.name: case.model for case in cases if case.model is not None}
    kinds: dict[object, str] = {}
    for name, model in every.items():
        if not name.endswith("_expanded"):
            kinds.setdefault(kind_of(model), name)
    names = [*kinds.values(), *(f"{name}_expanded" for name in kinds.values())]
    return {name: every[name] for name in names if name in every}


def test_every_model_ends_well(models: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    assert len(models) > 600
    counts: dict[str, tuple[int, int]] = {}
    refused: dict[str, str] = {}
    for name, model in models.items():
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        operator = models[name.removesuffix("_expanded")].graph.node[0].op_type
        try:
            macs = count_onnx_macs(path)
        except OnnxError as error:
            refused[name] = str(error)
            assert operator in WITHOUT_A_COUNT, name
            continue
        counts[name] = (macs.macs_standard, macs.macs_border_exact)
        assert 0 <= macs.macs_border_exact <= macs.macs_standard
    assert not [name for name, message in refused.items() if "cannot be examined" in message]
    expanded = [name for name in counts if name.endswith("_expanded")]
    assert len(expanded) > 100
    for name in expanded:
        assert counts[name] == counts[name.removesuffix("_expanded")], name
    assert sum(standard > 0 for standard, _ in counts.values()) > 100
