"""Maps that skip inputs that are zero.

In reading order:

    convolution     the torch function, and the choice between it and torch's own
    skipping_loops  its compiled loops: lists of inputs, sums over windows, gradients of weights
    spike_products  dense maps of zeros and ones, of which each is kept as a bit
    bit_loops       their compiled loops: spikes packed into bits, sums of the rows that they choose
"""
