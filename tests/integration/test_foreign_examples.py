"""The examples that train in norse and snnTorch, with fewer epochs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import neurodeploy as nd
from neurodeploy.interchange.floating import run_graph

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of the frameworks


def run_shortened(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lava_samples: int
) -> dict[str, object]:
    """Run an example with 6 epochs, and one of a fine-tune; return its variables."""
    pytest.importorskip(framework, reason=f"the package {framework} is not installed")
    text = (EXAMPLES / f"from_{framework}.py").read_text()
    settings = {"EPOCHS": 6, "LAVA_SAMPLES": lava_samples}
    if framework == "snntorch":
        settings["FINE_TUNE_EPOCHS"] = 1
    for name, value in settings.items():
        text, found = re.subn(rf"^{name} = \d+\b", f"{name} = {value}", text, flags=re.MULTILINE)
        assert found == 1
    script = tmp_path / "example.py"
    script.write_text(text)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    try:
        return runpy.run_path(str(script))
    finally:
        torch.set_num_threads(threads)


def check_result(
    variables: dict[str, object], framework: str, *, populations: int
) -> nd.ImportedDeployment:
    result = variables["result"]
    assert isinstance(result, nd.ImportedDeployment)
    assert result.path.resolve() == Path(f"runs/from_{framework}/network.net").resolve()
    # 10 classes, 360 images: chance is 10 %. The scripts' own epochs reach far more.
    assert variables["accuracy"] > 0.7
    assert result.accuracy["float"] == variables["accuracy"]
    assert abs(result.accuracy["deployed"] - variables["accuracy"]) < 0.05
    assert set(result.imported.notes.values()) == {"exact"}
    agreement = result.imported.agreement
    assert agreement is not None
    assert len(agreement.layers) == populations
    assert agreement.is_equal
    assert [layer.file_differing for layer in result.agreement] == [0] * populations
    shares = [layer.deployed for layer in result.agreement if layer.deployed is not None]
    assert min(shares) > 0.95
    report = variables["report"]
    assert isinstance(report, nd.Report)
    assert report.is_comparable
    assert report.sops_per_sample > 0
    return result


@pytest.mark.parametrize("framework", ["norse", "snntorch"])
def test_an_example_without_lava(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = run_shortened(framework, tmp_path, monkeypatch, lava_samples=0)
    result = check_result(variables, framework, populations=3)
    assert {layer.lava_differing for layer in result.agreement} == {None}
    if framework == "snntorch":
        narrow = variables["narrow"]
        assert isinstance(narrow, nd.ImportedDeployment)
        assert narrow.fine_tuning is not None
        assert list(narrow.accuracy) == ["float", "quantized", "fine-tuned", "deployed"]
        weights = [c.synapse.weight for layer in narrow.graph for c in layer.connections]
        assert [max(w.max(), -w.min()) <= 16 for w in weights] == [True] * 3


@pytest.mark.lava
@pytest.mark.parametrize("framework", ["norse", "snntorch"])
def test_an_example_on_real_lava(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    variables = run_shortened(framework, tmp_path, monkeypatch, lava_samples=2)
    result = check_result(variables, framework, populations=3)
    assert {layer.lava_differing for layer in result.agreement} == {0}
    printed = capsys.readouterr().out
    assert "accuracy of the 2 images that real Lava ran" in printed
    assert "MACs of the ReLU twin" in printed


def block_below(heading: str) -> str:
    text = (EXAMPLES / "README.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return block


def test_shortcut_branches_on_any_module() -> None:
    torch.manual_seed(0)
    layers = torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU()
    module = torch.nn.Sequential(*layers, torch.nn.Linear(8, 4))
    batches = [(torch.rand(3, 5, 6), torch.randint(0, 4, (5,))) for _ in range(4)]
    before = module[0].weight.detach().clone()
    variables: dict = {"module": module, "batch": batches[0][0], "batches": batches}
    exec(compile(block_below("Shortcut branches"), "examples/README.md", "exec"), variables)
    assert variables["module"] is module
    assert variables["weight"] == 0
    assert not torch.equal(module[0].weight, before)


def test_our_weights_in_layers_of_norse() -> None:
    pytest.importorskip("norse", reason="the package norse is not installed")
    block = block_below("Back to norse")
    torch.manual_seed(0)
    recipe = nd.Recipe.load(EXAMPLES.parent / "training" / "recipes" / "digits.toml")
    network = nd.remove_branches(nd.SpikingNetwork.from_recipe(recipe))
    variables: dict = {"network": network}
    exec(compile(block, "examples/README.md", "exec"), variables)
    samples = np.random.default_rng(0).integers(0, 2, (3, 8, 1, 8, 8)).astype(np.float32)
    ours = run_graph(variables["graph"], samples).values["conv1"]
    state = None
    with torch.no_grad():
        for step in range(samples.shape[1]):
            spikes, state = variables["first"](torch.from_numpy(samples[:, step]), state)
            np.testing.assert_array_equal(spikes.numpy(), ours[:, step])
    assert 0.01 < ours.mean() < 0.99
