"""Maps of spikes that skip inputs that are zero.

In reading order:

    spike_products  torch functions, and the choice between them and torch's own
    bit_loops       their compiled loops: spikes packed into bits, sums of the rows that they choose
"""
