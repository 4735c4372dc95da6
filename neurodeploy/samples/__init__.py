"""Samples from files: arrays, HDF5, event tables, camera recordings, opened a few at a time.

sources            any file or Python sequence as samples
array_files        arrays in `.npy` and `.npz` files; results, written piece by piece
event_tables       columns of events, and HDF5 data sets
camera_recordings  recordings of event cameras as frames
located_files      files that workers open by themselves, if they see the same ones
"""
