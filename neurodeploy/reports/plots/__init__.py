"""Plots of reports and comparisons, as SVG."""
