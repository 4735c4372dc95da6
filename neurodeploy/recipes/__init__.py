"""Networks as recipes name them: what [network] may say, and the layers that it stands for."""

from neurodeploy.recipes.layouts import (
    Layout as Layout,
    Shape as Shape,
    layout_of as layout_of,
    output_shape as output_shape,
    shapes_of as shapes_of,
)
from neurodeploy.recipes.network_sections import (
    AveragePoolLayer as AveragePoolLayer,
    CifarNetwork as CifarNetwork,
    ConvLayer as ConvLayer,
    DenseLayer as DenseLayer,
    GlobalAveragePoolLayer as GlobalAveragePoolLayer,
    LayerSection as LayerSection,
    MaxPoolLayer as MaxPoolLayer,
    MlpNetwork as MlpNetwork,
    NetworkSection as NetworkSection,
    NeuronLayer as NeuronLayer,
    NormKind as NormKind,
    PlainNetwork as PlainNetwork,
    PlainStages as PlainStages,
    ResidualKind as ResidualKind,
    ResidualLayer as ResidualLayer,
    ResidualNetwork as ResidualNetwork,
    ResidualStages as ResidualStages,
    SequentialNetwork as SequentialNetwork,
    VggNetwork as VggNetwork,
)
