"""Data sets larger than memory, run in pieces that survive an interruption.

long_run  has pieces run, and joins what is finished; goes on after a lost worker
pieces    reads pieces and runs them, here or in a worker
engines   computes pieces here, in processes, on Dask or Ray; detects a lost worker
parts     keeps each finished piece in a file beside the output
memory    how many samples fit into memory at a time
"""
