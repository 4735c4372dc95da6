"""Chips: limits of a target, the cores that a network takes, checks against both.

target       limits of one chip or simulator, every number with its source
layer_sizes  sizes of layers, of a network or of a line of text
cores        estimate of the neuro-cores that a network takes
limits       every limit that a network exceeds
"""
