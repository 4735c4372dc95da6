"""Samples from files: arrays, HDF5, event tables, camera recordings, opened a few at a time."""
