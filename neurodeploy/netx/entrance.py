"""Begin to read a netx file before anything that reads it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neurodeploy.untrusted.isolation import start_ahead

if TYPE_CHECKING:
    from neurodeploy.ir.graphs import FixedPointGraph


def read(
    path: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    input_bits: int | None = None,
    spike_exponent: int | None = None,
    accept_silent_faults: bool = False,
) -> FixedPointGraph:
    """Read a netx file.

    The HDF5 library may crash or hang on a damaged file, so another process reads the file first.

    Args:
        path: The `.net` file.
        input_shape: (C, H, W) or (N,) where the file has no input layer.
        input_bits: `input_message_bits` of Lava's `Network`: 0 means that every input value
            other than 0 is one spike, more that values count. None: what the file was written
            with if neurodeploy wrote it, else 0, Lava's default.
        spike_exponent: `spike_exp` of Lava's `Network`; matters to sigma-delta neurons only. None:
            that of the file if neurodeploy wrote it, else 6, Lava's default.
        accept_silent_faults: Do as Lava does where it silently drops what the file says: delays
            of conv layers, bias and delays of complex layers, weight matrices that it turns into
            zeros, and datasets that it does not read although they change what was trained.

    Returns:
        The network, one layer for each process that Lava would create.

    Raises:
        NetxError: If the file is missing, truncated or malformed, holds something that Lava
            would drop, hang on or fail on, or something that is not simulated.

    Example:
        >>> nd.netx.read(nd.load_example().net).names
        ('conv1', 'conv2', 'readout')
    """
    start_ahead("neurodeploy.untrusted.hdf5")
    from neurodeploy.netx.reader import read_network  # here: that process loads beside this one

    return read_network(
        Path(path),
        input_shape=input_shape,
        input_bits=input_bits,
        spike_exponent=spike_exponent,
        accept_silent_faults=accept_silent_faults,
    )
