"""Maps of spikes that skip inputs that are zero.

In reading order:

    spike_products  torch functions, and the choice between them and torch's own
    packed_spikes   spikes kept as bits by what torch computes, its convolutions and skips
    bit_loops       their compiled loops: spikes packed into bits, sums of the rows that they choose
"""
