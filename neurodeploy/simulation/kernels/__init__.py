"""Compiled event-driven kernels of the simulator."""
