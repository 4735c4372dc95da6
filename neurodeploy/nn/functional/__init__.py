"""Functions of tensors: neuron dynamics, their surrogate gradients, and compiled loops on CPUs.

In reading order:

    surrogate    stand-ins for the derivative of a spike, in torch and compiled
    dynamics     CUBA and LIF neurons over time, in torch, with hand-written gradients
    recurrence   the same neurons, with spikes that return in the next step
    rows         the (T, M) layout that dynamics work on
    cuba_loops   the same CUBA neurons as compiled loops on CPUs
    cuba_vectors their steps, for many neurons side by side in registers
    lif_loops    the same LIF neurons as compiled loops, also behind a batch norm
    lif_vectors  their steps, for many neurons side by side in registers
    parallel     spans of columns in several threads
    memory_pool  large arrays that are used again
    quantizer    SLAYER's 8-bit weights
    sparse       convolutions and dense maps of spikes, which skip inputs that are zero
"""
