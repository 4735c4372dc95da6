"""netx HDF5 files (`.net`), the format that lava-dl's `netx.hdf5.Network` loads."""

from neurodeploy.netx.reader import read as read
from neurodeploy.netx.writer import write as write
