"""Simulators: ours (`EventSimulator`) and real Lava (`LavaSimulator`), one `Recording` type."""

from neurodeploy.simulation.base import (
    Feed as Feed,
    Health as Health,
    Record as Record,
    Recording as Recording,
    Simulator as Simulator,
    Stream as Stream,
    Timing as Timing,
    Window as Window,
)
from neurodeploy.simulation.event import EventSimulator as EventSimulator
from neurodeploy.simulation.joining import join_recordings as join_recordings
from neurodeploy.simulation.lava import LavaSimulator as LavaSimulator
