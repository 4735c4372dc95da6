"""Trained modules of other frameworks against the frameworks themselves, spike for spike."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from zoo_networks import make_resnet

import neurodeploy as nd
from neurodeploy.errors import InterchangeError, NeurodeployError, TraceError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks
norse = pytest.importorskip("norse.torch", reason="the package norse is not installed")
snntorch = pytest.importorskip("snntorch", reason="the package snntorch is not installed")
sj_neuron = pytest.importorskip(
    "spikingjelly.activation_based.neuron", reason="the package spikingjelly is not installed"
)
sinabs_layers = pytest.importorskip("sinabs.layers", reason="the package sinabs is not installed")
rockpool = pytest.importorskip(
    "rockpool.nn.modules", reason="the package rockpool is not installed"
)

from sinabs.activation import MembraneReset, SingleSpike  # noqa: E402
from spikingjelly.activation_based import functional, layer as sj_layer  # noqa: E402

GOLDEN = Path(__file__).parents[1] / "golden" / "interchange"
Rng = np.random.Generator


def t(value: float) -> torch.Tensor:
    return torch.tensor(float(value))


def draw(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


# ------------------------------------------------------------------ recorded networks


class TimeLoop(nn.Module):
    """Golden case 18: the loop over time and the states are in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.lif1 = snntorch.Leaky(0.8, reset_mechanism="zero")
        self.pool = nn.AvgPool2d(2)
        self.fc = nn.Linear(64, 5)
        self.lif2 = snntorch.Leaky(0.95, reset_mechanism="none")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        out = []
        for step in range(x.shape[0]):
            spikes, mem1 = self.lif1(self.between(self.conv(x[step])), mem1)
            _, mem2 = self.lif2(self.fc(self.pool(spikes).flatten(1)), mem2)
            out.append(mem2)
        return torch.stack(out)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x


def multi_step(*layers: nn.Module) -> nn.Module:
    network = nn.Sequential(*layers)
    functional.set_step_mode(network, "m")
    return network


def single_step(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)  # as SpikingJelly makes its layers


MODULES: dict[str, Callable[[], nn.Module]] = {
    "09_norse_lifbox": lambda: norse.SequentialState(
        nn.Linear(12, 24),
        norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=t(250), v_th=t(0.25))),
        nn.Linear(24, 6),
        norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=t(500), v_th=t(0.25))),
    ),
    "10_norse_module_lif_li": lambda: norse.SequentialState(
        norse.Lift(nn.Linear(12, 24)),
        norse.LIF(norse.LIFParameters(v_th=t(0.5))),
        norse.Lift(nn.Linear(24, 5, bias=False)),
        norse.LI(),
    ),
    "11_norse_module_recurrent": lambda: norse.SequentialState(
        nn.Flatten(1),
        norse.LIFRecurrentCell(
            16, 20,
            p=norse.LIFParameters(v_th=t(0.5), tau_syn_inv=t(500), tau_mem_inv=t(250)),
        ),
        nn.Linear(20, 6),
        norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=t(500), v_th=t(0.25))),
    ),
    "17_spikingjelly_module_bn": lambda: multi_step(
        sj_layer.Conv2d(2, 4, 3, padding=1, bias=False),
        sj_layer.BatchNorm2d(4),
        sj_neuron.ParametricLIFNode(init_tau=2.0, v_threshold=0.5),
        sj_layer.MaxPool2d(2, 2),
        sj_layer.Conv2d(4, 4, 3, padding=1, bias=False),
        sj_layer.BatchNorm2d(4),
        sj_neuron.LIFNode(tau=4.0, v_threshold=1.0, v_reset=0.25),
        sj_layer.Flatten(),
        sj_layer.Linear(64, 5),
    ),
    "18_snntorch_module_loop": TimeLoop,
}  # fmt: skip


def recorded_module(case: str) -> tuple[nn.Module, np.ndarray, dict[str, np.ndarray]]:
    """The module with its recorded weights, its input, and its recorded outputs."""
    module = MODULES[case]()
    with np.load(GOLDEN / f"{case}.npz") as arrays:
        state = {
            key.removeprefix("state/"): torch.from_numpy(np.array(arrays[key]))
            for key in arrays.files
            if key.startswith("state/")
        }
        sent = {
            key.split("/")[1]: arrays[key]
            for key in arrays.files
            if key.startswith(("spikes/", "voltage/"))
        }
        inputs = arrays["input"]
    module.load_state_dict(state, strict=True)
    return module.eval(), inputs, sent


@pytest.mark.parametrize("case", MODULES)
def test_recorded_modules(case: str) -> None:
    module, inputs, sent = recorded_module(case)
    imported = nd.import_torch(module, inputs)
    run = imported.run(inputs)
    for name, theirs in sent.items():
        if name == "8":  # a Linear at the end: its output at each step, ours is the sum
            np.testing.assert_allclose(np.diff(run["output"], axis=1, prepend=0), theirs, atol=1e-5)
        elif run[name].dtype == np.uint8:
            np.testing.assert_array_equal(run[name], theirs, err_msg=name)
        else:
            np.testing.assert_allclose(run[name], theirs, atol=1e-5, err_msg=name)
    assert all(note.startswith("exact") for note in imported.notes.values())


# ------------------------------------------------------------------ random networks


def norse_box(rng: Rng, size: int) -> nn.Module:
    rest = t(rng.choice([0.0, 0.1]))
    return norse.LIFBoxCell(
        norse.LIFBoxParameters(
            tau_mem_inv=t(draw(rng, 50, 900)), v_th=t(draw(rng, 0.2, 0.6)), v_leak=rest,
            v_reset=rest,
        )
    )  # fmt: skip


def norse_parameters(rng: Rng) -> object:
    return norse.LIFParameters(
        tau_mem_inv=t(draw(rng, 50, 900)), tau_syn_inv=t(draw(rng, 50, 900)),
        v_th=t(draw(rng, 0.2, 0.6)),
    )  # fmt: skip


def sinabs_lif(rng: Rng, size: int, **options: object) -> nn.Module:
    return sinabs_layers.LIF(
        tau_mem=draw(rng, 2, 20), spike_fn=SingleSpike, reset_fn=MembraneReset(),
        spike_threshold=t(draw(rng, 0.2, 0.6)), norm_input=bool(rng.integers(2)), **options,
    )  # fmt: skip


def stepped(*layers: nn.Module) -> nn.Module:
    return norse.SequentialState(*layers)


def lifted(*layers: nn.Module) -> nn.Module:
    """Modules of norse that read time first; the others are lifted over it."""
    return norse.SequentialState(
        *(norse.Lift(part) if isinstance(part, nn.Linear) else part for part in layers)
    )


SJ_RECURRENT = sj_layer.LinearRecurrentContainer
LAYERS: dict[str, tuple[Callable, Callable[[Rng, int], nn.Module]]] = {
    "norse LIFBoxCell": (stepped, norse_box),
    "norse LIFCell": (stepped, lambda rng, n: norse.LIFCell(norse_parameters(rng))),
    "norse LIF": (lifted, lambda rng, n: norse.LIF(norse_parameters(rng))),
    "norse LIFRecurrent": (
        lifted, lambda rng, n: norse.LIFRecurrent(n, n, p=norse_parameters(rng)),
    ),
    "norse IAFCell": (
        stepped,
        lambda rng, n: norse.IAFCell(norse.IAFParameters(v_th=t(draw(rng, 0.5, 2)))),
    ),
    "norse LIFRecurrentCell": (
        stepped,
        lambda rng, n: norse.LIFRecurrentCell(
            n, n, p=norse_parameters(rng), autapses=bool(rng.integers(2))
        ),
    ),
    "snnTorch Leaky": (
        nn.Sequential,
        lambda rng, n: snntorch.Leaky(
            draw(rng, 0.1, 0.95), threshold=draw(rng, 0.2, 0.6), reset_mechanism="zero",
            init_hidden=True, reset_delay=bool(rng.integers(2)),
        ),
    ),
    "snnTorch Synaptic": (
        nn.Sequential,
        lambda rng, n: snntorch.Synaptic(
            draw(rng, 0.1, 0.9), draw(rng, 0.1, 0.9), threshold=draw(rng, 0.3, 0.9),
            reset_mechanism="zero", init_hidden=True, reset_delay=False,
        ),
    ),
    "snnTorch RLeaky": (
        nn.Sequential,
        lambda rng, n: snntorch.RLeaky(
            draw(rng, 0.1, 0.9), linear_features=n, threshold=draw(rng, 0.2, 0.6),
            reset_mechanism="zero", init_hidden=True, reset_delay=False,
        ),
    ),
    "SpikingJelly IFNode": (
        multi_step,
        lambda rng, n: sj_neuron.IFNode(draw(rng, 0.5, 2), v_reset=draw(rng, -0.2, 0.2)),
    ),
    "SpikingJelly LIFNode": (
        multi_step,
        lambda rng, n: sj_neuron.LIFNode(
            draw(rng, 1.2, 6), bool(rng.integers(2)), draw(rng, 0.2, 0.6),
            v_reset=draw(rng, -0.2, 0.1),
        ),
    ),
    "SpikingJelly ParametricLIFNode": (
        multi_step,
        lambda rng, n: sj_neuron.ParametricLIFNode(
            draw(rng, 1.2, 6), bool(rng.integers(2)), draw(rng, 0.2, 0.6)
        ),
    ),
    "SpikingJelly CUBALIFNode": (
        multi_step,
        lambda rng, n: sj_neuron.CUBALIFNode(
            draw(rng, 0.1, 0.9), draw(rng, 0.1, 0.9), v_threshold=draw(rng, 0.3, 0.9),
            v_reset=draw(rng, -0.2, 0.1),
        ),
    ),
    "SpikingJelly LinearRecurrentContainer": (
        multi_step,
        lambda rng, n: SJ_RECURRENT(sj_neuron.LIFNode(draw(rng, 1.5, 6), v_threshold=0.4), n, n),
    ),
    "sinabs LIF": (nn.Sequential, sinabs_lif),
    "sinabs LIF with tau_syn": (
        nn.Sequential,
        lambda rng, n: sinabs_lif(rng, n, tau_syn=draw(rng, 1, 8)),
    ),
    "sinabs LIFRecurrent": (
        nn.Sequential,
        lambda rng, n: sinabs_layers.LIFRecurrent(
            tau_mem=draw(rng, 2, 20), tau_syn=draw(rng, 1, 8), spike_fn=SingleSpike,
            reset_fn=MembraneReset(), spike_threshold=t(draw(rng, 0.1, 0.4)),
            rec_connect=nn.Linear(n, n, bias=False),
        ),
    ),
    "sinabs LIFSqueeze": (
        nn.Sequential,
        lambda rng, n: sinabs_layers.LIFSqueeze(
            **(({"batch_size": 4}, {"num_timesteps": 60})[rng.integers(2)]),
            tau_mem=draw(rng, 2, 20), tau_syn=(None, draw(rng, 1, 8))[rng.integers(2)],
            spike_fn=SingleSpike, reset_fn=MembraneReset(),
            spike_threshold=t(draw(rng, 0.2, 0.6)), norm_input=bool(rng.integers(2)),
        ),
    ),
    "sinabs IAFSqueeze": (
        nn.Sequential,
        lambda rng, n: sinabs_layers.IAFSqueeze(
            batch_size=4, spike_fn=SingleSpike, reset_fn=MembraneReset(),
            spike_threshold=t(draw(rng, 0.5, 2)),
        ),
    ),
    "sinabs IAFRecurrent": (
        nn.Sequential,
        lambda rng, n: sinabs_layers.IAFRecurrent(
            tau_syn=(None, draw(rng, 1, 8))[rng.integers(2)], spike_fn=SingleSpike,
            reset_fn=MembraneReset(), spike_threshold=t(draw(rng, 0.5, 2)),
            rec_connect=nn.Linear(n, n, bias=False),
        ),
    ),
    "sinabs IAF": (
        nn.Sequential,
        lambda rng, n: sinabs_layers.IAF(
            spike_fn=SingleSpike, reset_fn=MembraneReset(), spike_threshold=t(draw(rng, 0.5, 2))
        ),
    ),
}  # fmt: skip
LAYERS |= {
    f"{kind}, one step a call": (single_step, make)
    for kind, (join, make) in LAYERS.items()
    if join is multi_step
}


@pytest.mark.parametrize("kind", LAYERS)
def test_random_networks(kind: str, request: pytest.FixtureRequest) -> None:
    """Two layers with biases, 4 samples of 60 steps; a difference in any spike is an error."""
    join, make = LAYERS[kind]
    spikes = compared = 0
    for seed in range(request.config.getoption("--module-examples")):
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        dense = sj_layer.Linear if kind.startswith("SpikingJelly") else nn.Linear
        network = join(dense(8, 12), make(rng, 12), dense(12, 5), make(rng, 5)).eval()
        with torch.no_grad():
            for part in network.modules():
                if isinstance(part, nn.Linear):
                    part.weight *= 2
        samples = rng.integers(0, 2, (4, 60, 8)).astype(np.uint8)
        imported = nd.import_torch(network, samples)
        assert set(imported.notes.values()) == {"exact"}
        agreement = imported.agreement
        assert agreement is not None
        assert agreement.unexplained is None
        compared += sum(layer.values for layer in agreement.layers)
        spikes += sum(int(run.sum()) for run in imported.run(samples).values())
    assert 0.005 * compared < spikes < 0.9 * compared  # neither silent nor always on


def li_parameters(rng: Rng) -> dict[str, object]:
    return {
        "tau_mem_inv": t(draw(rng, 50, 900)),
        "v_leak": t(rng.choice([0.0, draw(rng, -0.4, 0.4)])),
    }


READ_OUTS: dict[str, tuple[Callable, str, Callable[[Rng], nn.Module]]] = {
    "norse LICell": (
        stepped, "norse LIFCell",
        lambda rng: norse.LICell(
            norse.LIParameters(**li_parameters(rng), tau_syn_inv=t(draw(rng, 50, 900)))
        ),
    ),
    "norse LI": (
        lifted, "norse LIF",
        lambda rng: norse.LI(
            norse.LIParameters(**li_parameters(rng), tau_syn_inv=t(draw(rng, 50, 900)))
        ),
    ),
    "norse LIBoxCell": (
        stepped, "norse LIFBoxCell",
        lambda rng: norse.LIBoxCell(norse.LIBoxParameters(**li_parameters(rng))),
    ),
    "snnTorch Leaky without reset": (
        nn.Sequential, "snnTorch Leaky",
        lambda rng: snntorch.Leaky(
            draw(rng, 0.1, 0.95), reset_mechanism="none", init_hidden=True, output=True
        ),
    ),
    "snnTorch Synaptic without reset": (
        nn.Sequential, "snnTorch Leaky",
        lambda rng: snntorch.Synaptic(
            draw(rng, 0.1, 0.9), draw(rng, 0.1, 0.9), reset_mechanism="none", init_hidden=True,
            output=True,
        ),
    ),
    "sinabs ExpLeak": (
        nn.Sequential, "sinabs LIF",
        lambda rng: sinabs_layers.ExpLeak(
            tau_mem=draw(rng, 2, 20), norm_input=bool(rng.integers(2))
        ),
    ),
    "Rockpool ExpSynTorch": (
        nn.Sequential, "sinabs LIF",  # Rockpool's own neurons that spike are not exact
        lambda rng: rockpool.ExpSynTorch(5, tau=t(draw(rng, 2e-3, 20e-3)), dt=1e-3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ_OUTS)
def test_random_read_outs(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Voltages of a last layer that never fires, at each step, where they rest included."""
    join, before, make = READ_OUTS[kind]
    busy = 0
    spiking = LAYERS[before][1]
    for seed in range(request.config.getoption("--module-examples")):
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        network = join(nn.Linear(8, 12), spiking(rng, 12), nn.Linear(12, 5), make(rng)).eval()
        samples = rng.integers(0, 2, (4, 60, 8)).astype(np.uint8)
        imported = nd.import_torch(network, samples)
        assert set(imported.notes.values()) == {"exact"}
        agreement = imported.agreement
        assert agreement is not None
        assert agreement.unexplained is None
        assert agreement.layers[-1].largest < 1e-5 or agreement.ties
        busy += all(np.ptp(values) > 0 for values in imported.run(samples).values())
    assert busy > seed / 2  # some networks may be silent
    result = nd.deploy(imported, samples, samples[:, 0, 0], out=tmp_path)
    assert all(layer.file_differing == 0 for layer in result.agreement)


def test_a_read_out_that_rests_at_different_potentials_is_no_exact_import() -> None:
    rests = torch.linspace(-0.2, 0.2, 5)
    network = norse.SequentialState(nn.Linear(8, 5), norse.LICell(norse.LIParameters(v_leak=rests)))
    with pytest.raises(InterchangeError, match="1: its voltages start at v_leak, which differ"):
        nd.import_torch(network, np.ones((2, 5, 8), np.uint8))


# ------------------------------------------------------------------ whole networks of a zoo


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spiking_resnet18", "sew_resnet18"])
def test_residual_networks_of_spikingjelly(name: str) -> None:
    torch.manual_seed(0)
    network = make_resnet(name).eval()
    samples = np.random.default_rng(0).integers(0, 2, (1, 4, 3, 32, 32)).astype(np.uint8)
    agreement = nd.import_torch(network, samples).agreement
    assert agreement is not None
    assert agreement.unexplained is None
    assert len(agreement.layers) >= 17
    assert sum(layer.values for layer in agreement.layers) > 180_000


# ------------------------------------------------------------------ from a module to a file


def test_a_module_becomes_a_file(tmp_path: Path) -> None:
    module, inputs, _ = recorded_module("11_norse_module_recurrent")
    result = nd.deploy(module, inputs, out=tmp_path)
    assert [entry.file_differing for entry in result.agreement] == [0] * len(result.agreement)
    assert all(entry.deployed > 0.9 for entry in result.agreement if entry.deployed is not None)


# ------------------------------------------------------------------ refusals


class Relu(TimeLoop):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


class Scaled(TimeLoop):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class Shifted(TimeLoop):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


class Own(snntorch.Leaky):
    pass


def leaky(**options: object) -> nn.Module:
    settings = {"reset_mechanism": "zero", "init_hidden": True, **options}
    return nn.Sequential(nn.Linear(8, 12), snntorch.Leaky(0.9, **settings)).eval()


def sinabs_network(**options: object) -> nn.Module:
    settings = {"spike_fn": SingleSpike, "reset_fn": MembraneReset(), **options}
    return nn.Sequential(nn.Linear(8, 12), sinabs_layers.LIF(tau_mem=5.0, **settings)).eval()


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "soft reset": (lambda: leaky(reset_mechanism="subtract"), r"1: Leaky subtracts .*'soft-reset'"),
    "lost step": (
        lambda: nn.Sequential(
            nn.Linear(8, 12),
            snntorch.Synaptic(0.5, 0.5, reset_mechanism="zero", init_hidden=True),
        ).eval(),
        r"1: Synaptic with reset_delay=True loses .*'lost-step'",
    ),
    "many spikes": (
        lambda: nn.Sequential(nn.Linear(8, 12), sinabs_layers.LIF(tau_mem=5.0)).eval(),
        r"1: LIF with MultiSpike .*'many-spikes', 'soft-reset'",
    ),
    "floor": (lambda: sinabs_network(min_v_mem=-1.0), r"1: LIF holds .*'minimum-voltage'"),
    "reset to another value": (
        lambda: sinabs_network(reset_fn=MembraneReset(0.1)),
        r"1: LIF with MembraneReset\(0.1\) adds that to every neuron",
    ),
    "initial state": (
        lambda: norse.SequentialState(
            nn.Linear(8, 12), norse.LIFBoxCell(norse.LIFBoxParameters(v_leak=t(0.2)))
        ),
        r"1: LIFBoxCell starts at v_leak.*'initial-state'",
    ),
    "rockpool": (
        lambda: nn.Sequential(rockpool.LinearTorch((8, 12)), rockpool.LIFTorch(12, dt=1e-3)),
        r"1: LIFTorch subtracts .*'soft-reset', 'many-spikes'",
    ),
    "inhibition": (lambda: leaky(inhibition=True), "1: Leaky with inhibition lets one neuron win"),
    "graded": (lambda: leaky(graded_spikes_factor=2.0), "1: Leaky sends graded spikes"),
    "a neuron that is not known": (
        lambda: nn.Sequential(nn.Linear(8, 12), Own(0.9, init_hidden=True)).eval(),
        "no spiking neurons that are known",
    ),
    "no neurons": (lambda: nn.Sequential(nn.Linear(8, 12)), "no spiking neurons"),
    "training mode": (
        lambda: nn.Sequential(nn.Dropout(0.5), *leaky()).train(),
        r"0: Dropout in training mode. Call eval\(\) first",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refusals_name_the_layer_the_cause_and_the_remedy(fault: str) -> None:
    make, message = REFUSED[fault]
    samples = np.ones((2, 5, 8), np.uint8)
    with pytest.raises(NeurodeployError, match=message):
        nd.import_torch(make(), samples)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Relu, r"lif1: reads the result of torch.relu"),
        (Scaled, r"lif1: reads the result of torch.mul"),
        (Shifted, r"lif1: reads the result of a sum with a constant"),
    ],
)
def test_functions_between_layers_are_not_passed_over(
    make: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(TraceError, match=message):
        nd.import_torch(make().eval(), np.ones((2, 5, 1, 8, 8), np.uint8))


def test_all_refusals_are_in_one_error() -> None:
    network = nn.Sequential(
        *leaky(reset_mechanism="subtract"), nn.Linear(12, 5),
        snntorch.Leaky(0.5, init_hidden=True, inhibition=True, reset_mechanism="zero"),
    ).eval()  # fmt: skip
    with pytest.raises(TraceError) as refused:
        nd.import_torch(network, np.ones((2, 5, 8), np.uint8))
    assert "3: Leaky with inhibition" in str(refused.value)


def test_a_departure_that_is_allowed_is_reported() -> None:
    rng = np.random.default_rng(2)
    samples = rng.integers(0, 2, (4, 40, 8)).astype(np.uint8)
    network = leaky(reset_mechanism="subtract", threshold=0.3)
    imported = nd.import_torch(network, samples, approximate={"soft-reset"})
    assert imported.notes["1"].startswith("soft-reset: ")
    assert imported.agreement is not None
    assert 0.5 < imported.agreement.layers[0].share_equal < 1


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (np.ones((2, 8)), {}, r"\(samples, T, ...\)"),
        (np.full((2, 5, 8), "x"), {}, "numbers"),
        (np.ones((0, 5, 8)), {}, "at least one"),
        (np.ones((2, 5, 8)), {"layout": "time"}, "allowed are TB"),
        (np.ones((2, 5, 8)), {"approximate": {"any"}}, "allowed are soft-reset"),
    ],
)
def test_wrong_arguments(samples: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        nd.import_torch(leaky(), samples, **options)


# ------------------------------------------------------------------ nothing is left behind


@pytest.mark.parametrize("is_refused", [False, True])
def test_the_module_is_left_as_it_was(is_refused: bool) -> None:
    network = leaky(reset_mechanism="subtract" if is_refused else "zero")
    samples = np.random.default_rng(0).integers(0, 2, (2, 5, 8)).astype(np.float32)
    network(torch.from_numpy(samples[:, 0]))  # states of a run before
    before = copy.deepcopy(network.state_dict())
    states = network[1].mem.clone()
    if is_refused:
        with pytest.raises(InterchangeError):
            nd.import_torch(network, samples)
    else:
        nd.import_torch(network, samples)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    assert torch.equal(network[1].mem, states)
    for part in network.modules():
        assert not part.training
        assert not part._forward_hooks
        assert not part._forward_pre_hooks


# ------------------------------------------------------------------ what spikes alone do not show


class Loop(nn.Module):
    """Two layers in a loop over time, with something between them; the last one may not spike."""

    def __init__(
        self,
        between: Callable[[torch.Tensor], torch.Tensor] = lambda spikes: spikes,
        reset: str = "zero",
        *,
        spikes_last: bool = True,
    ) -> None:
        super().__init__()
        self.between = between
        self.fc1, self.fc2 = nn.Linear(12, 24), nn.Linear(24, 6)
        self.lif1 = snntorch.Leaky(0.8, reset_mechanism=reset, threshold=0.3)
        self.lif2 = snntorch.Leaky(0.9, reset_mechanism="zero", threshold=0.3)
        self.spikes_last = spikes_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        out = []
        for step in range(x.shape[0]):
            spikes, mem1 = self.lif1(self.fc1(x[step]), self.state(mem1))
            value = self.fc2(self.between(spikes))
            if self.spikes_last:
                value, mem2 = self.lif2(value, mem2)
            out.append(value)
        return torch.stack(out)

    def state(self, mem: torch.Tensor) -> torch.Tensor:
        return mem


class Delayed(Loop):
    """The second layer reads the step before, without a recurrence."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        out, spikes = [], torch.zeros(x.shape[1], 24)
        for step in range(x.shape[0]):
            value, mem2 = self.lif2(self.fc2(spikes), mem2)
            spikes, mem1 = self.lif1(self.fc1(x[step]), mem1)
            out.append(value)
        return torch.stack(out)


class Halved(Loop):
    """A state is changed between steps."""

    def state(self, mem: torch.Tensor) -> torch.Tensor:
        return mem * 0.5


def reverse(spikes: torch.Tensor) -> torch.Tensor:
    return spikes[:, torch.arange(23, -1, -1)]


def transpose(spikes: torch.Tensor) -> torch.Tensor:
    return spikes.view(-1, 4, 6).transpose(1, 2).reshape(-1, 24)


def overwrite(spikes: torch.Tensor) -> torch.Tensor:
    spikes[:, 0] = 1
    return spikes


def loop_samples(steps: int = 20) -> np.ndarray:
    return (np.random.default_rng(5).random((4, steps, 12)) < 0.4).astype(np.uint8)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Loop(reverse, "subtract"), "fc2: reads the values of lif1 changed"),
        (lambda: Loop(transpose, "subtract"), "fc2: reads the values of lif1 changed"),
        (lambda: Loop(overwrite, "subtract"), "fc2: reads the result of an assignment"),
        (lambda: Delayed(reset="subtract"), r"fc2: reads lif1 of \[1\] steps before"),
        (lambda: Halved(reset="subtract"), "lif1: its state is the result of torch.mul"),
    ],
)
def test_an_approximation_hides_no_other_change(
    make: Callable[[], nn.Module], message: str, seed: int
) -> None:
    torch.manual_seed(seed)
    with pytest.raises(TraceError, match=message):
        nd.import_torch(make(), loop_samples(), approximate={"soft-reset"})


def test_an_approximation_alone_passes() -> None:
    for between in (lambda spikes: spikes, lambda s: torch.cat([s[:, :9], s[:, 9:]], 1).T.T.data):
        imported = nd.import_torch(
            Loop(between, "subtract"), loop_samples(), approximate={"soft-reset"}
        )
        assert imported.notes["lif1"].startswith("soft-reset")


class TwoEnds(Loop):
    """Two layers without neurons, and what a function makes of both."""

    def __init__(self, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.join, self.beside = join, nn.Linear(24, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mem1, ends = self.lif1.init_leaky(), []
        for step in range(x.shape[0]):
            spikes, mem1 = self.lif1(self.fc1(x[step]), mem1)
            ends.append((self.fc2(spikes), self.beside(spikes)))
        return self.join(*(torch.stack(end) for end in zip(*ends, strict=True)))


def test_only_sums_join_several_layers_at_the_end() -> None:
    agreement = nd.import_torch(TwoEnds(torch.add), loop_samples()).agreement
    assert agreement is not None
    assert agreement.layers[-1].name == "output"
    assert agreement.is_equal
    for join in (
        lambda a, b: torch.cat([a, b], 2),
        lambda a, b: torch.stack([a, b]),
        lambda a, b: a.amax(0) + b.amax(0),
    ):
        with pytest.raises(TraceError, match=r"the result comes of 2 layers \(beside, fc2\)"):
            nd.import_torch(TwoEnds(join), loop_samples())


def test_a_last_layer_without_neurons_is_compared() -> None:
    inputs = loop_samples()
    agreement = nd.import_torch(Loop(spikes_last=False), inputs).agreement
    assert agreement is not None
    assert [layer.name for layer in agreement.layers] == ["lif1", "output"]
    with pytest.raises(InterchangeError, match="output: the first spike that differs"):
        nd.import_torch(Loop(reverse, spikes_last=False), inputs)
    hooked = Loop(spikes_last=False)
    hooked.fc2.register_forward_hook(lambda *call: call[2] * 2)
    with pytest.raises(InterchangeError, match="changed by hooks"):
        nd.import_torch(hooked, inputs)


class Written(Loop):
    """Results are written into a tensor that is there before."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(*x.shape[:2], 6)
        for step, value in enumerate(super().forward(x)):
            out[step] = value
        return out.mean(0)


class Shared(nn.Module):
    """One pool, one dropout and one neuron at several places; states are handed over."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.drop, self.fc = nn.AvgPool2d(2), nn.Dropout(0.5), nn.Linear(16, 5)
        self.lif = neuron

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, out = [self.start()] * 3, []
        for step in range(x.shape[0]):
            value = x[step]
            for place, layer in enumerate((self.conv1, self.conv2)):
                value, states[place] = self.lif(layer(value), states[place])
                value = self.drop(self.pool(value))
            value, states[2] = self.lif(self.fc(value.flatten(1)), states[2])
            out.append(value)
        return torch.stack(out)

    def start(self) -> object:
        return self.lif.init_leaky() if isinstance(self.lif, snntorch.Leaky) else None


@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (lambda: snntorch.Leaky(0.8, threshold=0.2, reset_mechanism="zero"), None),
        (lambda: norse.LIFBoxCell(norse.LIFBoxParameters(v_th=t(0.05))), "TB"),
    ],
    ids=["snnTorch", "norse"],
)
def test_one_layer_may_stand_at_several_places(
    make: Callable[[], nn.Module], layout: str | None, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    samples = np.random.default_rng(0).integers(0, 2, (3, 9, 1, 8, 8)).astype(np.uint8)
    imported = nd.import_torch(Shared(make()).eval(), samples, layout=layout)
    assert list(imported.notes) == ["lif", "lif#2", "lif#3"]
    assert imported.agreement.is_equal
    assert all(0.02 < values.mean() < 0.9 for values in imported.run(samples).values())
    result = nd.deploy(imported, samples, out=tmp_path)
    assert [layer.file_differing for layer in result.agreement] == [0, 0, 0]


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_one_layer_may_see_all_of_time_at_several_places(steps: int) -> None:
    pool = sj_layer.AvgPool2d(2)

    def neuron() -> nn.Module:
        return sj_neuron.LIFNode(v_threshold=0.2)

    def conv(inputs: int) -> nn.Module:
        return sj_layer.Conv2d(inputs, 4, 3, padding=1)

    network = multi_step(conv(1), neuron(), pool, pool, conv(4), neuron(), pool, conv(4), neuron())
    samples = np.random.default_rng(0).integers(0, 2, (3, steps, 1, 8, 8)).astype(np.uint8)
    imported = nd.import_torch(network.eval(), samples)
    assert imported.agreement.is_equal
    assert imported.graph.shapes()["8"] == (4, 1, 1)


class OneState(Loop):
    """One state goes through both layers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mem, out = self.lif1.init_leaky(), []
        for step in range(x.shape[0]):
            spikes, mem = self.lif1(x[step], mem)
            spikes, mem = self.lif1(self.back(spikes), mem)
            out.append(spikes)
        return torch.stack(out)

    def __init__(self) -> None:
        super().__init__()
        self.back = nn.Linear(12, 12)


def test_a_state_handed_from_place_to_place_is_refused() -> None:
    with pytest.raises(TraceError, match="lif1: is called 40 times in 20 steps"):
        nd.import_torch(OneState(), loop_samples())


def test_a_neuron_that_keeps_its_state_stands_at_one_place() -> None:
    neuron = snntorch.Leaky(0.8, reset_mechanism="zero", init_hidden=True)
    network = nn.Sequential(nn.Linear(12, 12), neuron, nn.Linear(12, 12), neuron).eval()
    with pytest.raises(TraceError, match="1: is called 40 times in 20 steps"):
        nd.import_torch(network, loop_samples())


def test_results_may_be_written_into_a_tensor() -> None:
    agreement = nd.import_torch(Written(), loop_samples()).agreement
    assert agreement is not None
    assert agreement.is_equal


def test_parametrized_weights_are_read_as_used() -> None:
    network = Loop()
    nn.utils.parametrizations.weight_norm(network.fc1)
    nn.utils.parametrizations.orthogonal(network.fc2)
    agreement = nd.import_torch(network, loop_samples()).agreement
    assert agreement is not None
    assert agreement.is_equal


def test_half_precision_runs_in_float32() -> None:
    agreement = nd.import_torch(Loop().half(), loop_samples()).agreement
    assert agreement is not None
    assert agreement.is_equal


def test_a_module_that_fails_is_named_with_its_error() -> None:
    with pytest.raises(TraceError, match=r"Loop: does not run on samples \(4, 20, 11\) .*shapes"):
        nd.import_torch(Loop(), loop_samples()[:, :, :11])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.back = nn.Linear(12, 8), nn.Linear(8, 8)
        self.lif = snntorch.Leaky(0.8, reset_mechanism="zero", threshold=0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mem, spikes, out = self.lif.init_leaky(), torch.zeros(x.shape[1], 8), []
        for step in range(x.shape[0]):
            spikes, mem = self.lif(self.fc(x[step]) + self.back(spikes), mem)
            out.append(spikes)
        return torch.stack(out)


def test_one_step_shows_no_recurrence() -> None:
    assert nd.import_torch(Recurrent(), loop_samples()).agreement.is_equal
    with pytest.raises(TraceError, match=r"back: reads nothing .* samples of 2 steps or more"):
        nd.import_torch(Recurrent(), loop_samples(steps=1))


def test_a_floor_and_noise_are_refused() -> None:
    inputs = loop_samples()
    floor = nn.Sequential(
        nn.Linear(12, 4),
        sinabs_layers.LIF(10.0, spike_fn=SingleSpike, reset_fn=MembraneReset()),
        nn.Linear(4, 3),
        sinabs_layers.ExpLeak(10.0, min_v_mem=-1.0),
    )
    with pytest.raises(InterchangeError, match="3: ExpLeak holds its voltage above min_v_mem"):
        nd.import_torch(floor, inputs)
    noisy = rockpool.LIFTorch((12, 12), has_rec=False, noise_std=0.1)
    with pytest.raises(TraceError, match="adds noise at every step"):
        nd.import_torch(noisy, inputs, approximate={"soft-reset", "many-spikes"})


ROCKPOOL: dict[str, Callable[[Rng], nn.Module]] = {
    "LIFTorch": lambda rng: rockpool.LIFTorch(
        12, tau_mem=t(draw(rng, 2e-3, 20e-3)), tau_syn=t(draw(rng, 1e-3, 8e-3)),
        bias=t(draw(rng, -0.02, 0.02)), threshold=t(draw(rng, 0.3, 0.9)), dt=1e-3,
    ),
    "LIFTorch with decays": lambda rng: rockpool.LIFTorch(
        12, leak_mode="decays", alpha=t(draw(rng, 0.5, 0.9)), beta=t(draw(rng, 0.3, 0.9)), dt=1e-3
    ),
    "LIFTorch with shifts of bits": lambda rng: rockpool.LIFTorch(
        12, leak_mode="bitshifts", dash_mem=t(draw(rng, 1, 4)), dash_syn=t(draw(rng, 1, 3)), dt=1e-3
    ),
    "LIFTorch with recurrence": lambda rng: rockpool.LIFTorch(
        (12, 12), has_rec=True, tau_mem=torch.full((12,), draw(rng, 2e-3, 20e-3)),
        tau_syn=torch.full((12, 1), draw(rng, 1e-3, 8e-3)), max_spikes_per_dt=t(1), dt=1e-3,
    ),
    "LIFNeuronTorch": lambda rng: rockpool.LIFNeuronTorch(
        12, tau_mem=t(draw(rng, 2e-3, 20e-3)), bias=t(draw(rng, -0.02, 0.02)), dt=1e-3
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROCKPOOL)
def test_neurons_of_rockpool_fire_first_at_the_same_step(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Until its first spike no reset tells a neuron from ours; then the soft one does."""
    fired = 0
    for seed in range(request.config.getoption("--module-examples")):
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        network = nn.Sequential(rockpool.LinearTorch((8, 12), has_bias=True), ROCKPOOL[kind](rng))
        inputs = rng.integers(0, 2, (4, 60, 8)).astype(np.uint8)
        with torch.no_grad():
            theirs = network(torch.from_numpy(inputs).float())[0].numpy() != 0
        imported = nd.import_torch(network, inputs, approximate={"soft-reset", "many-spikes"})
        ours = imported.run(inputs)["1"] != 0
        before = np.cumsum(theirs, axis=1) - theirs
        has_fired = before > 0
        if "recurrence" in kind:  # what the first spikes bring arrives at the step after
            has_fired |= np.cumsum(before.any(axis=2), axis=1)[..., None] > 1
        np.testing.assert_array_equal(ours[~has_fired], theirs[~has_fired], err_msg=f"seed {seed}")
        fired += int(theirs[~has_fired].sum())
        assert ("1.back" in imported.graph.nodes) == ("recurrence" in kind)
    assert fired > seed


def test_a_module_of_rockpool_that_ran_before_is_observed_from_rest() -> None:
    network = nn.Sequential(rockpool.LinearTorch((12, 5)), rockpool.ExpSynTorch(5, dt=1e-3))
    network(torch.rand(1, 30, 12))
    agreement = nd.import_torch(network, loop_samples()).agreement
    assert agreement is not None
    assert agreement.layers[0].largest < 1e-5


def test_containers_of_rockpool_and_a_module_that_is_a_neuron() -> None:
    from rockpool.nn.combinators import Sequential

    inputs, allowed = loop_samples(), {"soft-reset", "many-spikes"}
    layers = rockpool.LinearTorch((12, 8)), rockpool.LIFTorch(8, dt=1e-3)
    inside = nd.import_torch(Sequential(*layers), inputs, approximate=allowed)
    plain = nd.import_torch(nn.Sequential(*layers), inputs, approximate=allowed)
    assert list(inside.notes) == ["1_LIFTorch"]
    np.testing.assert_array_equal(inside.run(inputs)["1_LIFTorch"], plain.run(inputs)["1"])
    alone = nd.import_torch(rockpool.LIFTorch(12, dt=1e-3), inputs, approximate=allowed)
    assert list(alone.notes) == ["liftorch"]


@pytest.mark.parametrize("seed", range(10))
def test_recurrence_of_sinabs(seed: int) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    exact = {"spike_fn": SingleSpike, "reset_fn": MembraneReset(), "norm_input": bool(seed % 2)}
    decays = {"tau_mem": draw(rng, 3, 20), "tau_syn": draw(rng, 2, 9) if seed % 3 else None}

    def network(back: nn.Module) -> nn.Module:
        recurrent = sinabs_layers.LIFRecurrent(
            **decays, rec_connect=back, spike_threshold=torch.tensor(0.15), **exact
        )
        return nn.Sequential(
            nn.Linear(12, 8), recurrent, nn.Linear(8, 3), sinabs_layers.ExpLeak(tau_mem=5.0)
        )

    inputs = loop_samples()
    module = network(nn.Linear(8, 8, bias=False))
    if seed % 2:
        module(torch.rand(2, 3, 12))  # states of training, of another batch
    agreement = nd.import_torch(module, inputs).agreement
    assert agreement is not None
    assert agreement.is_equal or agreement.unexplained is None
    with pytest.raises(TraceError, match="something other than one Linear"):
        nd.import_torch(network(nn.Sequential(nn.Linear(8, 8), nn.ReLU())), inputs)
    with pytest.raises(TraceError, match="recurrent Linear from the second step on"):
        nd.import_torch(network(nn.Linear(8, 8)), inputs)
