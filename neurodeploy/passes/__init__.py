"""Passes: from a float graph to the target's integers, one idea a module."""

from neurodeploy.passes.base import run_passes as run_passes
from neurodeploy.passes.batchnorm import fold_batchnorm as fold_batchnorm
from neurodeploy.passes.pooling import (
    fold_average_pool as fold_average_pool,
    fold_global_average_pool as fold_global_average_pool,
    lower_max_pool as lower_max_pool,
)
from neurodeploy.passes.quantization import (
    choose_scales as choose_scales,
    quantize as quantize,
)
from neurodeploy.passes.relay import lower_residuals as lower_residuals
