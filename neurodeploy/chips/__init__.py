"""Chips: limits and energies of a target, the cores that a network takes, checks against both."""
