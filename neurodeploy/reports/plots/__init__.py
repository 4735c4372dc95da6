"""Plots of the pages, as SVG.

In reading order:

- `drawing`: colours, axes, and a figure to SVG.
- `report_plots`: operations and activity by layer, energy, break-evens, sensitivity.
- `frame_plots`: operations and changed input of every frame.
- `run_plots`: accuracy by stage, training curves, and activity: rates, spikes, maps, membranes.
- `comparison_plots`: accuracy against energy of several networks.
"""
