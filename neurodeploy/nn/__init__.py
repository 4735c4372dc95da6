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
    Affine as Affine,
    Average as Average,
    Conv as Conv,
    Dense as Dense,
    Flatten as Flatten,
    GlobalAverageReadout as GlobalAverageReadout,
    Input as Input,
    Pool as Pool,
)
from neurodeploy.nn.functional.quantizer import EightBitQuantizer as EightBitQuantizer
from neurodeploy.nn.functional.surrogate import (
    SURROGATES as SURROGATES,
    Exponential as Exponential,
    Rectangular as Rectangular,
    Surrogate as Surrogate,
    Tanh as Tanh,
    TanhPrinted as TanhPrinted,
    Triangular as Triangular,
)
from neurodeploy.nn.neuron import (
    LIF as LIF,
    CubaLIF as CubaLIF,
)
from neurodeploy.nn.slayer import (
    SlayerLayout as SlayerLayout,
    export_state_dict as export_state_dict,
    from_time_first as from_time_first,
    import_state_dict as import_state_dict,
    to_time_first as to_time_first,
)
from neurodeploy.nn.slayer_parameters import (
    DeviceParams as DeviceParams,
    Dropout as Dropout,
    MeanOnlyBatchNorm as MeanOnlyBatchNorm,
    NeuronParams as NeuronParams,
    WgtScaleBatchNorm as WgtScaleBatchNorm,
    neuron_params as neuron_params,
)
from neurodeploy.nn.spiking_block import (
    Delay as Delay,
    shift_in_time as shift_in_time,
)
