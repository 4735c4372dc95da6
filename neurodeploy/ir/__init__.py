"""The intermediate representations: a float `Graph` and an integer `FixedPointGraph`."""

from neurodeploy.ir.fixed_layers import (
    Connection as Connection,
    CubaNeuron as CubaNeuron,
    FixedConv as FixedConv,
    FixedDense as FixedDense,
    FixedInjection as FixedInjection,
    FixedLayer as FixedLayer,
)
from neurodeploy.ir.graph import (
    FixedInput as FixedInput,
    FixedPointGraph as FixedPointGraph,
    Graph as Graph,
)
