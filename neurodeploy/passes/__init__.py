"""Passes: from a float graph to the target's integers.

- `folding`: batch norm, pooling and large groups become weights and neurons; run passes.
- `pruning`: take out weights and channels.
- `quantization`: floats become integers.
- `dequantization`: integers become floats, for exports.
- `calibration`: choose the scales of quantization from data.
- `linear_chains`: sums before a layer, layers in a row and layers with several readers become one
  synapse for each path; flattens and biases are put where other formats have them.
- `parallel_synapses`: synapses between the same two populations become one, on one kernel.
- `current_bias`: biases on decaying currents become channels that always fire.
- `widening`: add such channels to populations.
- `held_pixels`: which pixels of a map a layer holds, for relays.
- `relays`: skip connections become relay channels.
"""

from neurodeploy.passes.current_bias import (
    Carried as Carried,
    lower_current_biases as lower_current_biases,
)
from neurodeploy.passes.folding import (
    fold_average_pool as fold_average_pool,
    fold_batchnorm as fold_batchnorm,
    fold_global_average_pool as fold_global_average_pool,
    fold_normalization as fold_normalization,
    lower_max_pool as lower_max_pool,
    merge_groups as merge_groups,
    run_passes as run_passes,
)
from neurodeploy.passes.pruning import (
    magnitude_masks as magnitude_masks,
    pattern_masks as pattern_masks,
    prune_channels as prune_channels,
    prune_weights as prune_weights,
    zero_share as zero_share,
)
from neurodeploy.passes.quantization import choose_scales as choose_scales, quantize as quantize
from neurodeploy.passes.relays import (
    Lowered as Lowered,
    RelayCost as RelayCost,
    lower_residuals as lower_residuals,
)
