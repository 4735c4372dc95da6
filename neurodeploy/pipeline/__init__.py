"""A whole recipe, step after step: train, deploy, simulate, verify, report.

`neurodeploy train`, `deploy` and `run` call this package. Its names are loaded when they are first
used: most bring torch, and advice on an ONNX file needs none.

- `recipe_run`: the whole run.
- `stages`: train before deployment, verify after it.
- `assessment`: a deployed network on the test part: accuracy, counts, energy, page, summary.
- `deployment`: from a trained network to a verified netx file.
- `imported`: from a network of another framework to a verified netx file.
- `converted`: from an ordinary ReLU network to a sigma-delta network.
- `advising`: advice on such a network before any work.
- `sampled_frames`: frames for advice: their changes, and a network run on them.
- `frame_macs`: what that network costs for each frame, if it skips zeros.
- `prediction`: networks on samples: classes, accuracy, real Lava.
- `directory`: the files of a run.
- `observation`: progress and times.

A run lives in one directory:

    recipe.toml        the effective recipe
    training/          checkpoint, metrics.jsonl, best and last network
    fine_tuning/       the same of the quantization-aware fine-tune
    model.safetensors  the trained network, branches removed
    test.json          accuracy on the test part, where `train --test` asked for it
    network.net        the file that Lava loads; network.json records its making
    samples.npz        the test samples that Lava is asked about, with labels
    certificate.json   what was verified, to be checked by `neurodeploy verify --certificate`
    report.html        for people
    deployment.json    accuracy, counts and energy of what `deploy` made
    summary.json       for machines; written last, so its presence means that the run is whole
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurodeploy.files import (
        CERTIFICATE as CERTIFICATE,
        DEPLOYMENT as DEPLOYMENT,
        MODEL as MODEL,
        NET as NET,
        NET_RECORD as NET_RECORD,
        RECIPE as RECIPE,
        REPORT as REPORT,
        SAMPLES as SAMPLES,
        SUMMARY as SUMMARY,
        TEST as TEST,
    )
    from neurodeploy.pipeline.assessment import (
        RunResult as RunResult,
        assess_deployment as assess_deployment,
    )
    from neurodeploy.pipeline.deployment.agreement import (
        LayerCheck as LayerCheck,
        first_difference as first_difference,
    )
    from neurodeploy.pipeline.deployment.lowering import lower as lower
    from neurodeploy.pipeline.deployment.result import (
        Deployment as Deployment,
        PruningOutcome as PruningOutcome,
        Relaying as Relaying,
        Step as Step,
    )
    from neurodeploy.pipeline.deployment.steps import deploy as deploy
    from neurodeploy.pipeline.directory import (
        find_run as find_run,
        load_model as load_model,
        next_run_directory as next_run_directory,
        versions as versions,
    )
    from neurodeploy.pipeline.observation import (
        Observer as Observer,
        Silence as Silence,
        Stopwatch as Stopwatch,
    )
    from neurodeploy.pipeline.prediction import accuracy_of as accuracy_of, predict as predict
    from neurodeploy.pipeline.recipe_run import run as run
    from neurodeploy.pipeline.stages import (
        TrainingResult as TrainingResult,
        Verification as Verification,
        train as train,
        verify as verify,
    )

_NAMES_BY_MODULE = {
    "files": "CERTIFICATE DEPLOYMENT MODEL NET NET_RECORD RECIPE REPORT SAMPLES SUMMARY TEST",
    "pipeline.assessment": "RunResult assess_deployment",
    "pipeline.deployment.agreement": "LayerCheck first_difference",
    "pipeline.deployment.lowering": "lower",
    "pipeline.deployment.result": "Deployment PruningOutcome Relaying Step",
    "pipeline.deployment.steps": "deploy",
    "pipeline.directory": "find_run load_model next_run_directory versions",
    "pipeline.observation": "Observer Silence Stopwatch",
    "pipeline.prediction": "accuracy_of predict",
    "pipeline.recipe_run": "run",
    "pipeline.stages": "TrainingResult Verification train verify",
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'neurodeploy.pipeline' has no attribute '{name}'")
    value: object = getattr(import_module(f"neurodeploy.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
