"""Spiking networks in torch: neurons, blocks with SLAYER's names, exchange with lava-dl.

Tensors are time first, (T, N, C, H, W) or (T, N, C); `SlayerLayout` is for SLAYER's layout.
In reading order:

    network            a whole network: blocks, read-out, shortcut branches
    residual           residual blocks, and how a recipe's sections become blocks
    blocks             dense, convolution, pooling and others, with SLAYER's names
    spiking_block      the base of all blocks; axons and delays
    synapse            weights and their linear maps
    neuron             CUBA-LIF and LIF
    slayer_parameters  parameters, norms and dropout of a CUBA neuron
    batch_norm         batch norm of currents, statistics over all processes
    fused              batch norm and LIF as one function on CPUs
    functional/        dynamics, surrogates and compiled loops
    tracing            from a network to the float graph
    slayer             layouts and state dictionaries of lava-dl
    tensor_files       files of named tensors
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
from neurodeploy.nn.functional.quantizer import EightBitQuantizer
from neurodeploy.nn.functional.surrogate import (
    SURROGATES,
    Exponential,
    Rectangular,
    Surrogate,
    Tanh,
    TanhPrinted,
    Triangular,
)
from neurodeploy.nn.neuron import LIF, CubaLIF
from neurodeploy.nn.slayer import (
    SlayerLayout,
    export_state_dict,
    from_time_first,
    import_state_dict,
    to_time_first,
)
from neurodeploy.nn.slayer_parameters import (
    DeviceParams,
    Dropout,
    MeanOnlyBatchNorm,
    NeuronParams,
    WgtScaleBatchNorm,
    neuron_params,
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
    "neuron_params",
    "shift_in_time",
    "to_time_first",
]
