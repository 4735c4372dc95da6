"""Layouts of weights: what kernels read, made before a network runs.

weight_layout  weights as rows, a block for each source and delay
spreading      tables by which events spread over sums in memory
windows        weights of windows, in which sums stay in registers
"""
