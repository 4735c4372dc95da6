"""The intermediate representations: a float `Graph` and an integer `FixedPointGraph`.

- `float_layers`: the layers of a trained network.
- `integer_layers`: populations, synapses and neurons in the chip's integers.
- `graphs`: the two graphs, and the MACs of the ReLU twin that travel with the second.
"""

from neurodeploy.ir.graphs import (
    FixedInput as FixedInput,
    FixedPointGraph as FixedPointGraph,
    Graph as Graph,
)
from neurodeploy.ir.integer_layers import (
    Connection as Connection,
    CubaNeuron as CubaNeuron,
    DeltaNeuron as DeltaNeuron,
    FixedComplexDense as FixedComplexDense,
    FixedConv as FixedConv,
    FixedDense as FixedDense,
    FixedInjection as FixedInjection,
    FixedLayer as FixedLayer,
    ResonateFireNeuron as ResonateFireNeuron,
    SigmaDeltaNeuron as SigmaDeltaNeuron,
    SigmaNeuron as SigmaNeuron,
)
