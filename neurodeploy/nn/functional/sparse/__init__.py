"""Convolutions that skip inputs that are zero.

In reading order:

    convolution     the torch function, and the choice between it and torch's own
    skipping_loops  its compiled loops: lists of inputs, sums over windows, gradients of weights
"""
