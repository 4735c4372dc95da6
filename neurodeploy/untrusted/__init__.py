"""Bytes of strangers: the one way in for every file that is read.

Modules, in reading order:
    boundary: Kinds of files, and the guard that makes one clear error of whatever a reader raises.
    documents: TOML and JSON within bounds on size, nesting and numbers.
    isolation: Calls in a process of its own, with limits on time and memory.
    heap_strings: Strings of variable length in HDF5 files.
    hdf5: HDF5 files, read with bounds and without a step outside the file.
"""
