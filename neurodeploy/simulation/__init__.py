"""The simulator: exact integers, event by event, and the recordings that it makes.

recording        arguments and results of every simulator, and the rule by which a class is chosen
spike_bits       spikes of a recording as bits, made arrays when they are read
neurons          one step of each kind of neuron: the definition
synapses         weighted sums
counters         neuron updates and events
layer_by_layer   one layer in NumPy: gather, step, write, count
kernels          the same, compiled
kernel_code      the compiled functions, by name
outputs          the arrays of a recording
large_pages      memory for them
event_simulator  all layers of a network, groups of samples side by side
recording_files  recordings in files
long_runs        many samples on many processes or machines
"""

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
