"""neurodeploy: train spiking networks in torch and prove that what was deployed is what runs.

    import neurodeploy as nd

    recipe = nd.Recipe.load("training/recipes/digits.toml")
    network = nd.SpikingNetwork.from_recipe(recipe)

Every name below is loaded when it is first used: `import neurodeploy` is quick, and reading and
simulating files never loads torch.

Modules at the root serve all folders:

    errors        the errors that users meet
    files         files written whole or not at all; files of a run, and of the installation
    fixedpoint    the chip's integer arithmetic
    provenance    versions, commit and hashes behind a result
    strict_tables TOML and JSON read strictly into dataclasses
    machine_code  functions kept as machine code, called without their compiler
    llvm_vectors  vector instructions for compiled loops
    compiled_code loops compiled by numba, and kept from one start to the next
    testing       recordings compared spike by spike
    example       small verified networks with samples
"""

from importlib import import_module
from typing import TYPE_CHECKING

from neurodeploy._version import __version__

if TYPE_CHECKING:
    from neurodeploy import netx as netx, pipeline as pipeline, testing as testing
    from neurodeploy.chips.cores import estimate_cores as estimate_cores
    from neurodeploy.chips.layer_sizes import sizes_of as sizes_of
    from neurodeploy.chips.limits import (
        check_limits as check_limits,
        find_violations as find_violations,
    )
    from neurodeploy.chips.target import Target as Target
    from neurodeploy.conversion.converting import Conversion as Conversion
    from neurodeploy.counting.counted_run import count_samples as count_samples
    from neurodeploy.counting.network_counts import count as count
    from neurodeploy.counting.synapse_counts import count_layer as count_layer
    from neurodeploy.data import (
        ArrayDataset as ArrayDataset,
        Dataset as Dataset,
        load_data as load_data,
    )
    from neurodeploy.data.recipe_draft import (
        RecipeDraft as RecipeDraft,
        draft_recipe as draft_recipe,
    )
    from neurodeploy.energy.estimates import (
        Energy as Energy,
        System as System,
        estimate_energy as estimate_energy,
    )
    from neurodeploy.energy.formulas import (
        LayerAccesses as LayerAccesses,
        Operations as Operations,
    )
    from neurodeploy.energy.measured import Measured as Measured
    from neurodeploy.energy.presets import EnergyPreset as EnergyPreset
    from neurodeploy.errors import (
        NeurodeployError as NeurodeployError,
        NeurodeployWarning as NeurodeployWarning,
    )
    from neurodeploy.example import (
        Example as Example,
        ExampleCard as ExampleCard,
        list_examples as list_examples,
        load_example as load_example,
    )
    from neurodeploy.interchange.importing import Imported as Imported, import_nir as import_nir
    from neurodeploy.interchange.nir_writer import export_nir as export_nir
    from neurodeploy.interchange.torch_importing import import_torch as import_torch
    from neurodeploy.ir.graphs import FixedPointGraph as FixedPointGraph, Graph as Graph
    from neurodeploy.lava_bridge import LavaSimulator as LavaSimulator
    from neurodeploy.learning.branched_module import (
        BranchedModule as BranchedModule,
        add_shortcut_branches as add_shortcut_branches,
    )
    from neurodeploy.learning.evaluation import evaluate as evaluate
    from neurodeploy.learning.losses import combine_outputs as combine_outputs
    from neurodeploy.learning.schedules import branch_weight_at as branch_weight_at
    from neurodeploy.learning.trainer import Trainer as Trainer
    from neurodeploy.nn.network import (
        SpikingNetwork as SpikingNetwork,
        remove_branches as remove_branches,
    )
    from neurodeploy.nn.tracing import trace as trace
    from neurodeploy.onnx_models.macs import count_onnx_macs as count_onnx_macs
    from neurodeploy.onnx_models.step_export import export_step as export_step
    from neurodeploy.onnx_models.twin_export import export_twin as export_twin
    from neurodeploy.passes import (
        choose_scales as choose_scales,
        fold_average_pool as fold_average_pool,
        fold_batchnorm as fold_batchnorm,
        fold_global_average_pool as fold_global_average_pool,
        fold_normalization as fold_normalization,
        lower_current_biases as lower_current_biases,
        lower_max_pool as lower_max_pool,
        lower_residuals as lower_residuals,
        merge_groups as merge_groups,
        prune_channels as prune_channels,
        prune_weights as prune_weights,
        quantize as quantize,
        run_passes as run_passes,
    )
    from neurodeploy.passes.calibration import calibrate as calibrate
    from neurodeploy.pipeline.advising import advise as advise
    from neurodeploy.pipeline.converted import convert as convert
    from neurodeploy.pipeline.deployment.fine_tuning import FineTuning as FineTuning
    from neurodeploy.pipeline.imported import (
        ImportedDeployment as ImportedDeployment,
        deploy as deploy,
    )
    from neurodeploy.recipes.recipe import Recipe as Recipe
    from neurodeploy.recipes.recipe_keys import list_recipe_keys as list_recipe_keys
    from neurodeploy.reports.activity import (
        layer_activity_of as layer_activity_of,
        observe as observe,
    )
    from neurodeploy.reports.advice import Advice as Advice
    from neurodeploy.reports.certificate import Certificate as Certificate
    from neurodeploy.reports.comparison import (
        compare_networks as compare_networks,
        read_candidate as read_candidate,
    )
    from neurodeploy.reports.pages.advice_page import (
        advice_text as advice_text,
        write_advice as write_advice,
        write_advice_markdown as write_advice_markdown,
    )
    from neurodeploy.reports.pages.comparison_page import (
        write_comparison as write_comparison,
        write_comparison_markdown as write_comparison_markdown,
    )
    from neurodeploy.reports.pages.outline import (
        save_plot as save_plot,
        write_markdown as write_markdown,
        write_page as write_page,
    )
    from neurodeploy.reports.report import Report as Report, RunSummary as RunSummary
    from neurodeploy.reports.report_builder import (
        report as report,
        report_counts as report_counts,
    )
    from neurodeploy.samples.sources import open_samples as open_samples
    from neurodeploy.simulation import (
        EventSimulator as EventSimulator,
        Feed as Feed,
        Record as Record,
        Recording as Recording,
        Stream as Stream,
        Window as Window,
    )
    from neurodeploy.simulation.long_runs.engines import Crew as Crew
    from neurodeploy.simulation.long_runs.long_run import run_samples as run_samples

_MODULES = ("netx", "pipeline", "testing")
_NAMES_BY_MODULE = {
    "chips.cores": "estimate_cores",
    "chips.layer_sizes": "sizes_of",
    "chips.limits": "check_limits find_violations",
    "chips.target": "Target",
    "counting.counted_run": "count_samples",
    "conversion.converting": "Conversion",
    "counting.network_counts": "count",
    "counting.synapse_counts": "count_layer",
    "data": "ArrayDataset Dataset load_data",
    "data.recipe_draft": "RecipeDraft draft_recipe",
    "energy.estimates": "Energy System estimate_energy",
    "energy.measured": "Measured",
    "energy.formulas": "LayerAccesses Operations",
    "energy.presets": "EnergyPreset",
    "errors": "NeurodeployError NeurodeployWarning",
    "example": "Example ExampleCard list_examples load_example",
    "interchange.importing": "Imported import_nir",
    "interchange.nir_writer": "export_nir",
    "interchange.torch_importing": "import_torch",
    "ir.graphs": "FixedPointGraph Graph",
    "lava_bridge": "LavaSimulator",
    "learning.branched_module": "BranchedModule add_shortcut_branches",
    "learning.evaluation": "evaluate",
    "learning.losses": "combine_outputs",
    "learning.schedules": "branch_weight_at",
    "learning.trainer": "Trainer",
    "nn.network": "SpikingNetwork remove_branches",
    "nn.tracing": "trace",
    "onnx_models.macs": "count_onnx_macs",
    "onnx_models.step_export": "export_step",
    "onnx_models.twin_export": "export_twin",
    "passes": (
        "choose_scales fold_average_pool fold_batchnorm fold_global_average_pool "
        "fold_normalization lower_current_biases lower_max_pool lower_residuals merge_groups "
        "prune_channels prune_weights quantize run_passes"
    ),
    "passes.calibration": "calibrate",
    "pipeline.deployment.fine_tuning": "FineTuning",
    "pipeline.advising": "advise",
    "pipeline.converted": "convert",
    "pipeline.imported": "ImportedDeployment deploy",
    "recipes.recipe": "Recipe",
    "recipes.recipe_keys": "list_recipe_keys",
    "reports.activity": "layer_activity_of observe",
    "reports.advice": "Advice",
    "reports.certificate": "Certificate",
    "reports.comparison": "compare_networks read_candidate",
    "reports.pages.advice_page": "advice_text write_advice write_advice_markdown",
    "reports.pages.comparison_page": "write_comparison write_comparison_markdown",
    "reports.pages.outline": "save_plot write_markdown write_page",
    "reports.report": "Report RunSummary",
    "reports.report_builder": "report report_counts",
    "samples.sources": "open_samples",
    "simulation": "EventSimulator Feed Record Recording Stream Window",
    "simulation.long_runs.engines": "Crew",
    "simulation.long_runs.long_run": "run_samples",
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()}

__all__ = ["__version__", *sorted([*_MODULE_OF, *_MODULES])]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"neurodeploy.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'neurodeploy' has no attribute '{name}'")
    value: object = getattr(import_module(f"neurodeploy.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
