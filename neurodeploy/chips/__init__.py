"""Chips: limits of a target, the cores that a network takes, checks against both.

target       limits of one chip or simulator, every number with its source
layer_sizes  sizes of layers, all that an estimate of cores needs
shorthand    sizes from one line of text, before there is a network
cores        estimate of the neuro-cores that a network takes
limits       every limit that a network exceeds
"""
