"""Plots of the pages, as SVG.

In reading order:

- `drawing`: colours, axes, and a figure to SVG.
- `energy_plots`: energy by preset and number format, break-evens, sensitivity.
- `layer_plots`: operations and activity by layer.
- `run_plots`: accuracy by stage, training curves, spikes of one sample.
- `activity_plots`: rates, maps and membranes, for a page or a file.
- `comparison_plots`: accuracy against energy of several networks.
"""
