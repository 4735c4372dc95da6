"""netx HDF5 files (`.net`), the format that lava-dl's `netx.hdf5.Network` loads.

reader  a file to a `FixedPointGraph`
layers  one layer of it: weights, geometry, delays, bias, neurons
schema  every dataset that a file may hold, for reader and writer
writer  a `FixedPointGraph` to a file that stock lava-dl runs exactly
"""

from neurodeploy.netx.reader import read as read
from neurodeploy.netx.writer import write as write
