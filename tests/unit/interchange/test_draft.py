"""Random NIR graphs against a restatement that runs their nodes as NIR defines them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import neurodeploy as nd

Node = dict[str, object]
DT = 1e-3


def run_as_defined(
    nodes: dict[str, Node], edges: list[tuple[str, str]], inputs: np.ndarray
) -> dict[str, np.ndarray]:
    """Forward Euler node by node and step by step; v starts at v_reset (or 0)."""
    order = list(nodes)  # the generators write each node after its sources
    state: dict[str, list[torch.Tensor]] = {}
    sent: dict[str, list[torch.Tensor]] = {name: [] for name in nodes}
    last: dict[str, torch.Tensor] = {}
    for step in range(inputs.shape[1]):
        now: dict[str, torch.Tensor] = {}
        for name in order:
            sources = [source for source, end in edges if end == name]
            if nodes[name]["type"] == "Input":
                now[name] = torch.from_numpy(inputs[:, step])
                continue
            terms = []
            for source in sources:
                if source in now:
                    terms.append(now[source])
                else:  # recurrent: reads the step before
                    (neuron,) = [a for a, b in edges if b == source]
                    before = last.get(neuron, torch.zeros_like(terms[0]))
                    terms.append(apply(nodes[source], before))
            now[name] = update(nodes[name], sum(terms[1:], terms[0]), state.setdefault(name, []))
            sent[name].append(now[name])
        last = now
    run = {
        name: torch.stack(values, 1).numpy()
        for name, values in sent.items()
        if values and ("r" in nodes[name] or "threshold" in nodes[name])
    }
    last_node = edges[-1][0]
    while nodes[last_node]["type"] == "Flatten":
        (last_node,) = [source for source, end in edges if end == last_node]
    if last_node not in run:  # no neuron at the end: the sum over steps
        run["out"] = torch.stack(sent["out"], 1).cumsum(1).numpy()
    return run


def apply(node: Node, x: torch.Tensor) -> torch.Tensor:
    value = {k: torch.as_tensor(v) for k, v in node.items() if not isinstance(v, str)}
    match node["type"]:
        case "Affine":
            return x @ value["weight"].T + value["bias"]
        case "Linear":
            return x @ value["weight"].T
        case "Scale":
            return x * value["scale"]
        case "Flatten":
            return x.flatten(1)
        case "SumPool2d" | "AvgPool2d":
            kernel = tuple(np.broadcast_to(node["kernel_size"], 2).tolist())
            pooled = functional.avg_pool2d(x, kernel, tuple(np.broadcast_to(node["stride"], 2)))
            return pooled * (kernel[0] * kernel[1] if node["type"] == "SumPool2d" else 1)
        case "Conv1d" | "Conv2d":
            convolve = functional.conv1d if node["type"] == "Conv1d" else functional.conv2d
            padding = node["padding"]
            return convolve(
                x,
                value["weight"],
                value["bias"],
                stride=node["stride"],
                padding=padding if isinstance(padding, str) else tuple(np.atleast_1d(padding)),
                dilation=node["dilation"],
                groups=node["groups"],
            )
    raise AssertionError(node["type"])


def update(node: Node, x: torch.Tensor, state: list[torch.Tensor]) -> torch.Tensor:
    if node["type"] == "Output":
        return x
    if "r" not in node and "threshold" not in node:
        return apply(node, x)
    value = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in node.items() if k != "type"}
    if node["type"] == "Threshold":
        return (x > value["threshold"]).double()
    reset = value.get("v_reset", torch.tensor(0.0, dtype=torch.float64))
    if not state:
        state += [torch.zeros_like(x), torch.zeros_like(x) + reset]
    current, voltage = state
    if "tau_syn" in value:
        current = current + DT / value["tau_syn"] * (value["w_in"] * x - current)
        x = current
    tau = value.get("tau_mem", value.get("tau"))
    if tau is None:
        voltage = voltage + DT * value["r"] * x
    else:
        voltage = voltage + DT / tau * (value["v_leak"] - voltage + value["r"] * x)
    state[0] = current
    if "v_threshold" not in value:
        state[1] = voltage
        return voltage
    spikes = voltage > value["v_threshold"]
    state[1] = torch.where(spikes, reset, voltage)
    return spikes.double()


def neuron(rng: np.random.Generator, shape: tuple[int, ...], *, fires: bool = True) -> Node:
    """A random neuron; parameters are one number, one a channel, or full and equal in a channel."""
    rows = shape[:1] + (1,) * (len(shape) - 1)

    def draw(low: float, high: float, *, varies: bool = True) -> np.ndarray:
        if not varies or rng.random() < 0.4:
            return np.full(rng.choice([0, 1]) * (1,), rng.uniform(low, high))
        values = rng.uniform(low, high, rows)
        return np.broadcast_to(values, shape).copy() if rng.random() < 0.5 else (
            values.reshape(shape[:1]) if len(shape) == 1 else values.copy()
        )  # fmt: skip

    kind = str(rng.choice(["LIF", "CubaLIF", "IF"] if fires else ["LI", "CubaLI", "I"]))
    node: Node = {"type": kind, "r": draw(0.5, 2.0)}
    if kind in ("LIF", "LI"):
        node |= {"tau": draw(2e-3, 8e-3), "v_leak": draw(-0.1, 0.1)}
    elif kind in ("CubaLIF", "CubaLI"):
        node |= {
            "tau_mem": draw(2e-3, 8e-3), "tau_syn": draw(1e-3, 4e-3), "v_leak": draw(-0.1, 0.1),
            "w_in": draw(0.5, 2.0),
        }  # fmt: skip
    else:
        node["r"] = np.asarray(node["r"]) / DT / 4
    if fires:
        node |= {"v_threshold": draw(0.2, 0.5), "v_reset": draw(-0.1, 0.1)}
    return node


def random_graph(seed: int) -> tuple[dict[str, Node], list[tuple[str, str]], tuple[int, ...]]:
    """Conv or dense layers with scales, pools, skips and recurrence between neurons."""
    rng = np.random.default_rng(seed)
    nodes: dict[str, Node] = {}
    edges: list[tuple[str, str]] = []

    def add(name: str, node: Node, *sources: str) -> str:
        nodes[name] = node
        edges.extend((source, name) for source in sources)
        return name

    shape: tuple[int, ...] = (2, 6, 6) if rng.random() < 0.6 else (8,)
    start = shape
    last = add("in", {"type": "Input", "shape": np.array(shape)})
    for index in range(int(rng.integers(1, 4))):
        if len(shape) == 3:
            if rng.random() < 0.3:
                scale = rng.uniform(0.5, 2, (shape[0], 1, 1))
                last = add(f"scale{index}", {"type": "Scale", "scale": scale}, last)
            out, groups = 4, int(rng.choice([1, 2]))
            kernel, dilation = rng.integers(1, 5, 2), int(rng.choice([1, 2]))
            is_same = bool(rng.random() < 0.5) or min(shape[1:]) < 5
            weight = rng.normal(size=(out, shape[0] // groups, *kernel)) / kernel.prod()
            last = add(
                f"conv{index}",
                {
                    "type": "Conv2d", "weight": weight, "bias": rng.normal(size=out) * 0.1,
                    "stride": 1 if is_same else 2, "padding": "same" if is_same else 4,
                    "dilation": dilation, "groups": groups,
                },
                last,
            )  # fmt: skip
            if not is_same:
                size = [
                    (shape[a + 1] + 8 - dilation * (kernel[a] - 1) - 1) // 2 + 1 for a in (0, 1)
                ]
                shape = (out, int(size[0]), int(size[1]))
            shape = (out, *shape[1:])
            if rng.random() < 0.2 and min(shape[1:]) >= 2:
                kind = str(rng.choice(["SumPool2d", "AvgPool2d"]))
                last = add(f"p{index}", {"type": kind, "kernel_size": 2, "stride": 2}, last)
                shape = (out, shape[1] // 2, shape[2] // 2)
            last = add(f"lif{index}", neuron(rng, shape), last)
            if rng.random() < 0.4 and min(shape[1:]) >= 2:
                kind = str(rng.choice(["SumPool2d", "AvgPool2d"]))
                last = add(
                    f"pool{index}",
                    {"type": kind, "kernel_size": np.array([2, 1]), "stride": np.array(2)},
                    last,
                )
                shape = (out, shape[1] // 2, (shape[2] - 1) // 2 + 1)
            if rng.random() < 0.4 or index == 2:
                last = add(f"flat{index}", {"type": "Flatten"}, last)
                shape = (int(np.prod(shape)),)
        else:
            if rng.random() < 0.3:
                scale = rng.uniform(0.5, 2, shape)
                last = add(f"scale{index}", {"type": "Scale", "scale": scale}, last)
            weight = rng.normal(size=(10, shape[0])) * 2 / np.sqrt(shape[0])
            before, shape = last, (10,)
            last = add(
                f"fc{index}", {"type": "Affine", "weight": weight, "bias": rng.normal(size=10) / 9},
                last,
            )  # fmt: skip
            if rng.random() < 0.3:
                last = add(
                    f"tail{index}", {"type": "Scale", "scale": rng.uniform(0.5, 2, 10)}, last
                )
            name = add(f"lif{index}", neuron(rng, shape), last)
            if rng.random() < 0.4 and nodes[before].get("v_threshold") is not None and (
                nodes[before]["type"] != "Flatten" and index and len(nodes) > 3
                and before.startswith("lif") and nodes[f"fc{index}"]["weight"].shape[1] == 10
            ):  # fmt: skip
                edges.append((before, name))  # an identity skip
            if rng.random() < 0.4:
                matrix = rng.normal(size=(10, 10)) / 4
                recurrent = {"type": "Affine", "weight": matrix, "bias": rng.normal(size=10) / 9}
                add(f"rec{index}", recurrent, name)
                edges.append((f"rec{index}", name))
            last = name
    if len(shape) == 1 and rng.random() < 0.5:
        last = add("fc", {"type": "Linear", "weight": rng.normal(size=(3, shape[0]))}, last)
        last = add("read", neuron(rng, (3,), fires=False), last)
    add("out", {"type": "Output", "shape": np.array([1])}, last)
    return nodes, edges, start


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int) -> None:
    nodes, edges, shape = random_graph(seed)
    rng = np.random.default_rng(1000 + seed)
    inputs = rng.integers(0, 2, (3, 12, *shape)).astype(np.float64)
    expected = run_as_defined(nodes, edges, inputs)
    imported = nd.import_nir({"type": "NIRGraph", "nodes": nodes, "edges": edges}, dt=DT)
    got = imported.run(inputs)
    assert set(got) == set(expected)
    for name, theirs in expected.items():
        if got[name].dtype == np.uint8:
            np.testing.assert_array_equal(got[name], theirs, err_msg=name)
        else:
            np.testing.assert_allclose(got[name], theirs, atol=1e-9, err_msg=name)


def flattened(**nodes: Node) -> dict[str, object]:
    """A chain of a convolution, a flatten and what follows."""
    weight = np.random.default_rng(3).normal(size=(2, 1, 3, 3))
    first: dict[str, Node] = {
        "in": {"type": "Input", "shape": np.array([1, 4, 4])},
        "conv": {
            "type": "Conv2d", "weight": weight, "bias": np.array([0.1, -0.2]),
            "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1),
            "groups": 1,
        },
        "flat": {"type": "Flatten"},
        **nodes,
        "out": {"type": "Output"},
    }  # fmt: skip
    return {"type": "NIRGraph", "nodes": first, "edges": list(itertools.pairwise(first))}


def lif(thresholds: np.ndarray) -> Node:
    one = np.ones_like(thresholds)
    return {
        "type": "LIF", "tau": one * 2 * DT, "r": one, "v_leak": one * 0, "v_threshold": thresholds,
        "v_reset": one * 0,
    }  # fmt: skip


def test_neurons_behind_a_flatten_stay_on_the_map() -> None:
    thresholds = np.repeat([0.1, 0.2], 16)
    source = flattened(lif=lif(thresholds))
    imported = nd.import_nir(source, dt=DT)
    assert imported.graph.shapes() == {"in": (1, 4, 4), "conv": (2, 4, 4), "lif": (2, 4, 4)}
    inputs = np.random.default_rng(1).integers(0, 2, (2, 8, 1, 4, 4)).astype(np.float64)
    expected = run_as_defined(source["nodes"], source["edges"], inputs)["lif"]
    spikes = imported.run(inputs)["lif"]
    assert spikes.shape == (2, 8, 32)
    np.testing.assert_array_equal(spikes, expected)
    assert 0.05 < spikes.mean() < 0.95


def test_thresholds_that_differ_between_flattened_pixels_go_into_a_dense_layer(
    tmp_path: Path,
) -> None:
    thresholds = np.linspace(0.1, 0.3, 32)
    source = flattened(lif=lif(thresholds))
    imported = nd.import_nir(source, dt=DT)
    inputs = np.random.default_rng(1).integers(0, 2, (2, 8, 1, 4, 4)).astype(np.float64)
    expected = run_as_defined(source["nodes"], source["edges"], inputs)["lif"]
    np.testing.assert_array_equal(imported.run(inputs)["lif"], expected)
    result = nd.deploy(imported, inputs, out=tmp_path)
    assert result.graph.layers[0].shape == (32,)
    assert result.agreement[0].deployed is not None
    assert result.agreement[0].deployed > 0.9


def test_flattens_that_nothing_reads_are_dropped() -> None:
    """One behind another, at the end and in between; a dense layer reads neurons on a map."""
    dense: Node = {"type": "Linear", "weight": np.ones((3, 32))}
    once = nd.import_nir(flattened(lif=lif(np.array(0.1)), again={"type": "Flatten"}), dt=DT)
    assert list(once.graph.nodes) == ["in", "conv", "lif"]
    read = nd.import_nir(flattened(lif=lif(np.array(0.1)), dense=dense), dt=DT)
    assert list(read.graph.nodes) == ["in", "conv", "lif", "lif.flat", "dense", "out"]
    assert read.graph.shapes()["lif"] == (2, 4, 4)
