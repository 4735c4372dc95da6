"""netx HDF5 files (`.net`), the format that lava-dl's `netx.hdf5.Network` loads.

entrance  `read`, which starts the process that tries a file before it loads the reader
reader    a file to a `FixedPointGraph`
layers    one layer of it: weights, geometry, delays, bias, neurons
schema    every dataset that a file may hold, for reader and writer
writer    a `FixedPointGraph` to a file that stock lava-dl runs exactly
"""

from importlib import import_module
from typing import TYPE_CHECKING

from neurodeploy.netx.entrance import read as read

if TYPE_CHECKING:
    from neurodeploy.netx.writer import write as write


def __getattr__(name: str) -> object:
    if name != "write":
        raise AttributeError(f"module 'neurodeploy.netx' has no attribute '{name}'")
    return import_module("neurodeploy.netx.writer").write
