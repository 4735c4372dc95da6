"""Import stock Lava, wherever this Python is.

Three things are arranged, each only where it is needed:

- Python 3.11 and later refuse unhashable dataclass defaults, which one module of lava-nc 0.10 has:
  it is imported with hashable dataclasses.
- `lava.lib.dl.netx` imports one function from lava-dl's SLAYER, which needs torch. Where torch is
  absent, that function is provided here.
- `lava.lib.dl.netx` imports `sequential_modules`, which needs torch and which no file uses. Where
  torch is absent, an empty module takes its place.

On a full Python 3.10 installation nothing is arranged at all.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path

import numpy as np


def import_lava():
    """Import Lava and return its modules under short names.

    Returns:
        A namespace with `Network`, `NetDict`, `source` (Lava's source processes), `RunSteps`,
        `Loihi2SimCfg`, `ProcessServer`, `VarServer` and `probes`.

    Raises:
        ImportError: If this Python has no Lava.
    """
    if sys.version_info >= (3, 11):
        _import_with_hashable_dataclasses("lava.magma.compiler.var_model")
    if importlib.util.find_spec("torch") is None:
        _stand_in_for_torch_modules()
    sys.path.insert(0, str(Path(__file__).parent / "probes"))
    netx = importlib.import_module("lava.lib.dl.netx.hdf5")
    return types.SimpleNamespace(
        Network=netx.Network,
        NetDict=netx.NetDict,
        source=importlib.import_module("lava.proc.io.source"),
        RunSteps=importlib.import_module("lava.magma.core.run_conditions").RunSteps,
        Loihi2SimCfg=importlib.import_module("lava.magma.core.run_configs").Loihi2SimCfg,
        ProcessServer=importlib.import_module("lava.magma.core.process.process").ProcessServer,
        VarServer=importlib.import_module("lava.magma.core.process.variable").VarServer,
        probes=importlib.import_module("lava_probes"),
    )


def _import_with_hashable_dataclasses(name):
    """Import module `name` while every dataclass gets a hash (Python 3.11 and later)."""
    plain = dataclasses.dataclass

    def hashable(cls=None, **options):
        return plain(cls, **{"unsafe_hash": True, **options})

    dataclasses.dataclass = hashable
    try:
        importlib.import_module(name)
    finally:
        dataclasses.dataclass = plain


def _stand_in_for_torch_modules():
    """Put modules that need no torch where netx imports ones that do."""
    for name in ("lava.lib.dl.slayer", "lava.lib.dl.slayer.neuron"):
        package = types.ModuleType(name)
        package.__path__ = []
        _install(package)
    resonator = types.ModuleType("lava.lib.dl.slayer.neuron.rf")
    resonator.neuron_params = resonator_parameters
    _install(resonator)
    modules = types.ModuleType("lava.lib.dl.netx.sequential_modules")
    spec = importlib.util.find_spec("lava.lib.dl")
    for folder in spec.submodule_search_locations if spec else ():
        path = Path(folder) / "netx" / "sequential_modules.py"
        if path.exists():
            modules.__file__ = str(path)  # Lava's compiler asks every module here for its file
    sys.modules[modules.__name__] = modules
    warnings.filterwarnings("ignore", message="Cannot import module .*sequential_modules")


def _install(module):
    """Register `module` and make it an attribute of its parent."""
    parent, _, child = module.__name__.rpartition(".")
    sys.modules[module.__name__] = module
    setattr(importlib.import_module(parent), child, module)


def resonator_parameters(config):
    """Return period and decay of a resonate-and-fire neuron.

    Args:
        config: The neuron's group; `sinDecay` and `cosDecay` are integers in 1/4096.

    Returns:
        `period` in steps and `decay` = 1 - r, where r is the length of (cos, sin) per step.

    Source:
        lava-dl 0.6.0, lava/lib/dl/slayer/neuron/rf.py:neuron_params
    """
    sine, cosine = config["sinDecay"] / 4096, config["cosDecay"] / 4096
    length = np.sqrt(sine**2 + cosine**2)
    # NumPy, and in this order: the last bit decides about truncation later.
    return {"period": 1 / (np.arctan2(sine, cosine) / 2 / np.pi), "decay": 1 - length}
