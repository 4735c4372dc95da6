"""Effective MACs of ONNX models: every product enumerated."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neurodeploy.errors import OnnxError
from neurodeploy.onnx_models.macs import count_onnx_macs
from neurodeploy.onnx_models.measured_zeros import OnnxActivity, measure_onnx

Array = npt.NDArray[np.generic]


def saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    shape: list[int | str],
    constants: dict[str, Array],
    *,
    kind: int = TensorProto.FLOAT,
    result: int = TensorProto.FLOAT,
    rank: int = 4,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", result, [f"d{axis}" for axis in range(rank)])],
        initializer=[numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    return path


def measured(path: Path, samples: Array) -> OnnxActivity:
    return measure_onnx(count_onnx_macs(path, bind_batch=True), samples)


def test_passes_are_told_as_they_are_done(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = saved(tmp_path / "m.onnx", nodes, [1, 3], {}, rank=2)
    told: list[tuple[int, int]] = []
    measure_onnx(
        count_onnx_macs(path),
        np.ones((300, 3), np.float32),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 300) for done in range(3, 301, 3)]


def sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    values = rng.normal(size=shape) * (rng.random(shape) < 0.5)
    return values.astype(np.float32)


def enumerated(x: Array, w: Array, *, stride: int, padding: int, dilation: int, groups: int) -> int:
    """Count products of two nonzero values, one output position and tap after the other."""
    channels, height, width = x.shape
    outs, inner, taps, _ = w.shape
    size = [(n + 2 * padding - dilation * (taps - 1) - 1) // stride + 1 for n in (height, width)]
    count = 0
    for o, c in product(range(outs), range(inner)):
        source = o // (outs // groups) * inner + c
        for oy, ox, ky, kx in product(range(size[0]), range(size[1]), range(taps), range(taps)):
            iy, ix = (at * stride - padding + k * dilation for at, k in ((oy, ky), (ox, kx)))
            if 0 <= iy < height and 0 <= ix < width:
                count += bool(x[source, iy, ix] != 0 and w[o, c, ky, kx] != 0)
    assert channels == inner * groups
    return count


@pytest.mark.parametrize("seed", range(4))
def test_a_network_is_measured_product_by_product(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups, stride, dilation = int(rng.integers(1, 3)), int(rng.integers(1, 3)), 1 + seed % 2
    w1, w2 = sparse(rng, (4, 4 // groups, 3, 3)), sparse(rng, (3, 4 * 36))
    size = {(1, 1): 6, (1, 2): 8, (2, 1): 12, (2, 2): 14}[stride, dilation]
    nodes = [
        helper.make_node(
            "Conv",
            ["x", "w1"],
            ["a"],
            pads=[1] * 4,
            strides=[stride] * 2,
            dilations=[dilation] * 2,
            group=groups,
            name="conv",
        ),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b"], ["y"], transB=1, name="fc", alpha=0.5),
    ]
    constants: dict[str, Array] = {"w1": w1, "w2": w2, "b": np.ones(3, np.float32)}
    path = saved(tmp_path / "m.onnx", nodes, ["n", 4, size, size], constants, rank=2)
    samples = sparse(rng, (3, 4, size, size))
    found = measured(path, samples)
    conv = fc = 0
    for x in samples:
        conv += enumerated(x, w1, stride=stride, padding=1, dilation=dilation, groups=groups)
        out = np.zeros((4, 6, 6))
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        for o, c, ky, kx in product(range(4), range(4 // groups), range(3), range(3)):
            patch = padded[o // (4 // groups) * (4 // groups) + c]
            patch = patch[ky * dilation :, kx * dilation :][::stride, ::stride][:6, :6]
            out[o] += w1[o, c, ky, kx] * patch
        active = (out > 0).reshape(-1)
        fc += int(((w2 != 0) & active).sum())
    assert found.macs_effective == {"conv": conv, "fc": fc}
    ones = np.ones_like(samples[0])
    by_weights = enumerated(ones, w1, stride=stride, padding=1, dilation=dilation, groups=groups)
    assert found.macs_nonzero == {"conv": by_weights, "fc": np.count_nonzero(w2)}
    assert (found.samples, found.unmeasured, found.classes.shape) == (3, (), (3,))


def test_integers_are_zero_at_their_zero_point(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    w = rng.integers(0, 4, (3, 2, 3, 3)).astype(np.uint8)
    points = np.array([1, 0, 2], np.uint8)
    node = helper.make_node(
        "QLinearConv",
        ["x", "s", "p", "w", "ws", "wp", "s", "z"],
        ["y"],
        pads=[1] * 4,
        name="q",
    )
    constants: dict[str, Array] = {
        "s": np.array(0.1, np.float32),
        "p": np.array(2, np.uint8),
        "z": np.array(0, np.uint8),
        "w": w,
        "ws": np.full(3, 0.1, np.float32),
        "wp": points,
    }
    kind = TensorProto.UINT8
    path = saved(tmp_path / "m.onnx", [node], [1, 2, 5, 5], constants, kind=kind, result=kind)
    x = rng.integers(0, 4, (1, 2, 5, 5)).astype(np.uint8)
    centered = w.astype(int) - points[:, None, None, None]
    expected = enumerated(x[0].astype(int) - 2, centered, stride=1, padding=1, dilation=1, groups=1)
    found = measured(path, x)
    assert found.macs_effective == {"q": expected}
    ones = np.ones_like(x[0])
    by_weights = enumerated(ones, centered, stride=1, padding=1, dilation=1, groups=1)
    assert found.macs_nonzero == {"q": by_weights}


def test_transposed_convolutions_and_einsum(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    x, w = sparse(rng, (1, 2, 3, 4)), sparse(rng, (2, 3, 3, 3))
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], name="up")
    path = saved(tmp_path / "m.onnx", [node], [1, 2, 3, 4], {"w": w})
    # without padding every tap of every input lands in the output
    expected = int(sum((x[0, c] != 0).sum() * (w[c] != 0).sum() for c in range(2)))
    assert measured(path, x).macs_effective == {"up": expected}
    w = sparse(rng, (4, 5))
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation="bchi,io->bcho", name="e")
    path = saved(tmp_path / "m.onnx", [node], [1, 2, 3, 4], {"w": w})
    expected = int(sum((w[i] != 0).sum() * (x[..., i] != 0).sum() for i in range(4)))
    assert measured(path, x).macs_effective == {"e": expected}


def test_recurrent_layers_count_in_full_and_say_so(tmp_path: Path) -> None:
    node = helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=2, name="gru")
    constants: dict[str, Array] = {
        "w": np.ones((1, 6, 3), np.float32),
        "r": np.ones((1, 6, 2), np.float32),
    }
    path = saved(tmp_path / "m.onnx", [node], [4, 1, 3], constants)
    found = measured(path, np.zeros((2, 4, 1, 3), np.float32))
    assert found.unmeasured == ("gru",)
    assert found.total == 2 * 4 * 3 * 2 * (3 + 2)


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")
    path = saved(tmp_path / "m.onnx", [node], [1, 4], {"w": np.ones((4, 2), np.float32)}, rank=2)
    with pytest.raises(OnnxError, match=r"samples \(2, 3\).*4 values"):
        measured(path, np.ones((2, 3)))
    huge = saved(
        tmp_path / "h.onnx", [node], [1, 10**8, 4], {"w": np.ones((4, 2), np.float32)}, rank=3
    )
    one = np.broadcast_to(np.zeros((), np.float32), (1, 10**8, 4))
    with pytest.raises(OnnxError, match="up to 268435456 are run"):
        measure_onnx(count_onnx_macs(huge), one)
    odd = helper.make_node("Odd", ["x"], ["y"], domain="my.ops")
    graph_proto = helper.make_graph(
        [odd],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("my.ops", 1)]
    onnx.save(
        helper.make_model(graph_proto, opset_imports=imports, ir_version=9), tmp_path / "o.onnx"
    )
    with pytest.raises(OnnxError, match="onnxruntime cannot run it"):
        measured(tmp_path / "o.onnx", np.ones((1, 2)))
