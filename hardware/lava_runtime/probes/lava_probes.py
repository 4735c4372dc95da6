"""Lava processes that write what they see straight into files.

`Var.get()` moves one element per message, about 40 microseconds each; a memory map costs nothing.
These processes have a folder of their own because Lava executes every Python file in the folder of
a file that defines a process.

Arrays on disk have the axes (rows, ..., C, H, W): Lava's order (W, H, C) is reversed on writing.
"""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class SpikeProbe(AbstractProcess):
    """Stores what arrives at `a_in`, one row a step.

    Args:
        shape: Shape of the layer, (W, H, C) or (N,).
        rows: Memory map (rows, C, H, W) or (rows, N) int32.
        first: Column of a Lava sink (step - 1) that goes into row 0.
        early: Memory map (1,) int64; counts the values other than zero before `first`.
    """

    def __init__(self, *, shape, rows, first, early):
        super().__init__(rows=rows, first=first, early=early)
        self.a_in = InPort(shape=shape)


@implements(proc=SpikeProbe, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeProbe(PyLoihiProcessModel):
    """Python model of `SpikeProbe`."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.rows = proc_params["rows"]
        self.first = proc_params["first"]
        self.early = proc_params["early"]

    def run_spk(self):
        """Store one step."""
        data = self.a_in.recv()
        row = self.time_step - 1 - self.first
        if row < 0:
            self.early[0] += np.count_nonzero(data)
        elif row < len(self.rows):
            self.rows[row] = data.T


class _StateProbe(AbstractProcess):
    """Stores neuron states after chosen steps.

    Args:
        variables: The states' Lava variables, all of one shape.
        rows: Memory map (rows, states, C, H, W) or (rows, states, N) int32.
        first: Column (step - 1) that goes into row 0.
        every: Steps from one row to the next.
    """

    def __init__(self, *, variables, rows, first, every):
        super().__init__(rows=rows, first=first, every=every)
        for index, variable in enumerate(variables):
            port = RefPort(variable.shape)
            setattr(self, f"state{index}", port)
            port.connect_var(variable)


class _PyStateProbe(PyLoihiProcessModel):
    """Python model of the state probes; a subclass has one port for each state."""

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.rows = proc_params["rows"]
        self.first = proc_params["first"]
        self.every = proc_params["every"]

    def _row(self):
        since = self.time_step - 1 - self.first
        return -1 if since < 0 or since % self.every else since // self.every

    def post_guard(self):
        """Return whether this step is one of the chosen ones."""
        return 0 <= self._row() < len(self.rows)

    def run_post_mgmt(self):
        """Store the states of one step."""
        row = self.rows[self._row()]
        for index in range(len(row)):
            row[index] = getattr(self, f"state{index}").read().T


class StateProbe1(_StateProbe):
    """Probe of one state."""


class StateProbe2(_StateProbe):
    """Probe of two states."""


class StateProbe3(_StateProbe):
    """Probe of three states."""


@implements(proc=StateProbe1, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStateProbe1(_PyStateProbe):
    """Python model of `StateProbe1`."""

    state0: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)


@implements(proc=StateProbe2, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStateProbe2(_PyStateProbe):
    """Python model of `StateProbe2`."""

    state0: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    state1: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)


@implements(proc=StateProbe3, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStateProbe3(_PyStateProbe):
    """Python model of `StateProbe3`."""

    state0: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    state1: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    state2: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)


STATE_PROBES = {1: StateProbe1, 2: StateProbe2, 3: StateProbe3}
"""State probe by number of states."""
