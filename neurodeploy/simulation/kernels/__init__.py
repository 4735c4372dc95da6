"""Compiled event-driven kernels of the simulator; `layer_by_layer` defines what they compute.

structures      types of the records through which kernels are told of layers
layouts         weights as kernels read them
compiled_layer  a layer in the form that kernels run, or none
event_lists     lists of events and bits of spikes: writing, reading, searching
neuron_vectors  one step of LIF neurons in vector registers
lif             the kernel that sums in registers, pixel by pixel; states and counts
lif_frames      the kernel that sums in memory, event by event or in windows
change_vectors  one step of sigma-delta neurons in vector registers
sigma_delta     the kernel of sigma-delta neurons
resonators      the kernel of resonate-and-fire neurons
input_blocks    the kernels of input blocks, which are fed values
layer_records   the store of a group of samples; which kernel is called
"""
