"""Exact counts: operations of every synapse, layer and network in one run.

In reading order:

- `fan_out`: synapses that leave each source neuron, for dense layers and for convolutions with
  stride, padding, dilation and groups.
- `synapse_counts`: events times fan-out: the SOPs of one layer.
- `counts`: counts of a network as data.
- `network_counts`: a deployed network and its recording to counts.
- `relu_twin`: MACs of the ordinary network to compare with.
- `neurobench`: the same network in NeuroBench's metrics.
"""
