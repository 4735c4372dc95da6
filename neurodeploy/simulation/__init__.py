"""Our simulator: exact integers, event by event, and the recordings that it makes."""

from neurodeploy.simulation.event_simulator import EventSimulator as EventSimulator
from neurodeploy.simulation.recording import (
    Feed as Feed,
    Health as Health,
    Record as Record,
    Recording as Recording,
    Simulator as Simulator,
    Stream as Stream,
    Timing as Timing,
    Window as Window,
)
