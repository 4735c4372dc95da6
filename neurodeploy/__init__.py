"""neurodeploy: train spiking networks in torch and prove that what was trained is what runs.

    import neurodeploy as nd

    recipe = nd.Recipe.load("training/recipes/digits.toml")
    network = nd.SpikingNetwork.from_recipe(recipe)

Every name below is loaded when it is first used, so `import neurodeploy` is quick, and whoever
only reads and simulates files never loads torch.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurodeploy import netx as netx, pipeline as pipeline, testing as testing
    from neurodeploy.calibration import Calibration as Calibration, calibrate as calibrate
    from neurodeploy.cost.activity import (
        layer_activity_of as layer_activity_of,
        observe as observe,
    )
    from neurodeploy.cost.activity_page import save_plot as save_plot
    from neurodeploy.cost.comparison import (
        compare_networks as compare_networks,
        read_candidate as read_candidate,
    )
    from neurodeploy.cost.comparison_page import (
        write_comparison as write_comparison,
        write_comparison_markdown as write_comparison_markdown,
    )
    from neurodeploy.cost.energy import Energy as Energy, estimate_energy as estimate_energy
    from neurodeploy.cost.fan_out import (
        conv_fan_out as conv_fan_out,
        dense_fan_out as dense_fan_out,
    )
    from neurodeploy.cost.inference import (
        LayerAccesses as LayerAccesses,
        Operations as Operations,
        System as System,
    )
    from neurodeploy.cost.markdown import write_markdown as write_markdown
    from neurodeploy.cost.measured import Measured as Measured
    from neurodeploy.cost.neurobench import metrics_of_layers as metrics_of_layers
    from neurodeploy.cost.onnx_macs import OnnxMacs as OnnxMacs, count_onnx_macs as count_onnx_macs
    from neurodeploy.cost.operations import count as count
    from neurodeploy.cost.page import write_page as write_page
    from neurodeploy.cost.presets import EnergyPreset as EnergyPreset
    from neurodeploy.cost.run_summary import RunSummary as RunSummary
    from neurodeploy.cost.summary import Report as Report, report as report
    from neurodeploy.cost.synapses import (
        InputKind as InputKind,
        count_layer as count_layer,
        count_pool as count_pool,
    )
    from neurodeploy.errors import (
        NeurodeployError as NeurodeployError,
        NeurodeployWarning as NeurodeployWarning,
    )
    from neurodeploy.events import Events as Events
    from neurodeploy.ir.graph import FixedPointGraph as FixedPointGraph, Graph as Graph
    from neurodeploy.learning.data import (
        ArrayDataset as ArrayDataset,
        Dataset as Dataset,
        load_data as load_data,
    )
    from neurodeploy.learning.evaluation import evaluate as evaluate
    from neurodeploy.learning.trainer import Trainer as Trainer
    from neurodeploy.nn.fake_quantization import IntegerNetwork as IntegerNetwork
    from neurodeploy.nn.network import SpikingNetwork as SpikingNetwork
    from neurodeploy.nn.shortcut import remove_branches as remove_branches
    from neurodeploy.onnx_files.step import export_step as export_step
    from neurodeploy.onnx_files.twin import export_twin as export_twin
    from neurodeploy.passes import (
        check_limits as check_limits,
        choose_scales as choose_scales,
        estimate_cores as estimate_cores,
        find_violations as find_violations,
        fold_average_pool as fold_average_pool,
        fold_batchnorm as fold_batchnorm,
        fold_global_average_pool as fold_global_average_pool,
        lower_max_pool as lower_max_pool,
        lower_residuals as lower_residuals,
        merge_groups as merge_groups,
        prune_channels as prune_channels,
        prune_weights as prune_weights,
        quantize as quantize,
        run_passes as run_passes,
        sizes_of as sizes_of,
    )
    from neurodeploy.recipe import Recipe as Recipe
    from neurodeploy.simulation import (
        EventSimulator as EventSimulator,
        Feed as Feed,
        LavaSimulator as LavaSimulator,
        Record as Record,
        Recording as Recording,
        Stream as Stream,
        Window as Window,
    )
    from neurodeploy.simulation.engines import Crew as Crew
    from neurodeploy.simulation.longrun import run_samples as run_samples
    from neurodeploy.simulation.samples import open_samples as open_samples
    from neurodeploy.target import Target as Target
    from neurodeploy.tracing import trace as trace

__version__ = "0.1.0"

_HOMES = {
    "calibration": ("Calibration", "calibrate"),
    "cost.activity": ("layer_activity_of", "observe"),
    "cost.activity_page": ("save_plot",),
    "cost.comparison": ("compare_networks", "read_candidate"),
    "cost.comparison_page": ("write_comparison", "write_comparison_markdown"),
    "cost.energy": ("Energy", "estimate_energy"),
    "cost.fan_out": ("conv_fan_out", "dense_fan_out"),
    "cost.inference": ("LayerAccesses", "Operations", "System"),
    "cost.markdown": ("write_markdown",),
    "cost.measured": ("Measured",),
    "cost.neurobench": ("metrics_of_layers",),
    "cost.onnx_macs": ("OnnxMacs", "count_onnx_macs"),
    "cost.operations": ("count",),
    "cost.page": ("write_page",),
    "cost.presets": ("EnergyPreset",),
    "cost.run_summary": ("RunSummary",),
    "cost.summary": ("Report", "report"),
    "cost.synapses": ("InputKind", "count_layer", "count_pool"),
    "errors": ("NeurodeployError", "NeurodeployWarning"),
    "events": ("Events",),
    "ir.graph": ("FixedPointGraph", "Graph"),
    "learning.data": ("ArrayDataset", "Dataset", "load_data"),
    "learning.evaluation": ("evaluate",),
    "learning.trainer": ("Trainer",),
    "nn.fake_quantization": ("IntegerNetwork",),
    "nn.network": ("SpikingNetwork",),
    "nn.shortcut": ("remove_branches",),
    "onnx_files.step": ("export_step",),
    "onnx_files.twin": ("export_twin",),
    "passes": (
        "check_limits",
        "choose_scales",
        "estimate_cores",
        "find_violations",
        "fold_average_pool",
        "fold_batchnorm",
        "fold_global_average_pool",
        "lower_max_pool",
        "lower_residuals",
        "merge_groups",
        "prune_channels",
        "prune_weights",
        "quantize",
        "run_passes",
        "sizes_of",
    ),
    "recipe": ("Recipe",),
    "simulation": (
        "EventSimulator",
        "Feed",
        "LavaSimulator",
        "Record",
        "Recording",
        "Stream",
        "Window",
    ),
    "simulation.engines": ("Crew",),
    "simulation.longrun": ("run_samples",),
    "simulation.samples": ("open_samples",),
    "target": ("Target",),
    "tracing": ("trace",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("netx", "pipeline", "testing")

__all__ = ["__version__", *sorted([*_HOME_OF, *_MODULES])]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        module: ModuleType = import_module(f"neurodeploy.{name}")
        return module
    if name not in _HOME_OF:
        raise AttributeError(f"module 'neurodeploy' has no attribute '{name}'")
    value: object = getattr(import_module(f"neurodeploy.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
