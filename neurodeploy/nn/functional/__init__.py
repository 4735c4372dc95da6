"""Functions of tensors: neuron dynamics, their surrogate gradients, and compiled loops on CPUs.

In reading order:

    surrogate   stand-ins for the derivative of a spike
    dynamics    CUBA and LIF neurons over time, in torch, with hand-written gradients
    rows        the (T, M) layout that dynamics work on
    compiled    the same neurons through the compiled loops
    cuba_loops  compiled loops of CUBA neurons
    lif_loops   compiled loops of LIF neurons behind a batch norm
    slopes      compiled surrogates
    parallel    spans of columns in several threads
    quantizer   SLAYER's 8-bit weights
    sparse      convolutions that skip inputs that are zero
"""
