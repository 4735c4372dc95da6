"""Exact counts: operations of every synapse, layer and network in one run.

In reading order:

- `fan_out`: synapses that leave each source neuron, for dense layers and for convolutions with
  stride, padding, dilation and groups; MACs of the ReLU twin to compare with.
- `synapse_counts`: events times fan-out: the SOPs of one layer.
- `count_tables`: counts of a synapse, a layer, a network, which add up over samples.
- `network_counts`: a deployed network and its recording to counts, by layer and by sample.
- `frame_counts`: every frame of a sequence, where a network sends changes.
- `counted_run`: any number of samples, simulated and counted a few at a time.
- `neurobench`: the same network in NeuroBench's metrics.
"""
