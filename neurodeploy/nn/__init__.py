"""Spiking networks in torch: neurons, blocks with SLAYER's names, exchange with lava-dl.

Tensors are time first, (T, N, C, H, W) or (T, N, C); `SlayerLayout` is for SLAYER's layout.
"""

from neurodeploy.nn.blocks import (
    Affine,
    Average,
    Conv,
    Dense,
    Flatten,
    GlobalAverageReadout,
    Input,
    Pool,
)
from neurodeploy.nn.functional.surrogate import (
    SURROGATES,
    Exponential,
    Rectangular,
    Surrogate,
    Tanh,
    TanhPrinted,
    Triangular,
    make_surrogate,
)
from neurodeploy.nn.neuron import (
    LIF,
    CubaLIF,
    DeviceParams,
    NeuronParams,
    neuron_params,
)
from neurodeploy.nn.normalization import (
    Dropout,
    MeanOnlyBatchNorm,
    WgtScaleBatchNorm,
)
from neurodeploy.nn.quantizer import EightBitQuantizer
from neurodeploy.nn.slayer import (
    SlayerLayout,
    export_state_dict,
    from_time_first,
    import_state_dict,
    to_time_first,
)
from neurodeploy.nn.spiking_block import Delay, shift_in_time

__all__ = [
    "LIF",
    "SURROGATES",
    "Affine",
    "Average",
    "Conv",
    "CubaLIF",
    "Delay",
    "Dense",
    "DeviceParams",
    "Dropout",
    "EightBitQuantizer",
    "Exponential",
    "Flatten",
    "GlobalAverageReadout",
    "Input",
    "MeanOnlyBatchNorm",
    "NeuronParams",
    "Pool",
    "Rectangular",
    "SlayerLayout",
    "Surrogate",
    "Tanh",
    "TanhPrinted",
    "Triangular",
    "WgtScaleBatchNorm",
    "export_state_dict",
    "from_time_first",
    "import_state_dict",
    "make_surrogate",
    "neuron_params",
    "shift_in_time",
    "to_time_first",
]
