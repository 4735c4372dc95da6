"""Compiled event-driven kernels of the simulator; `layer_by_layer` defines what they compute.

structures      types of the records through which kernels are told of layers
weight_blocks   weights as rows, in the narrowest exact type
frame_layout    tables by which events spread over sums in memory
compiled_layer  a layer in the form that kernels run, or none
compilation     numba's cache, keyed by all sources that have a part in the code
event_lists     lists of events: writing, reading, searching
neuron_vectors  one step of LIF neurons in vector registers
layer_results   states and counts
lif             the kernel that sums in registers, pixel by pixel
lif_frames      the kernel that sums in memory, event by event
sigma_delta     the kernel of sigma-delta neurons
layer_records   the store of a group of samples, and the call of the right kernel
"""
