"""Networks of other frameworks, in and out, by way of NIR files.

In reading order: `nir_schema` the primitives and their fields; `nir_reader` a file of strangers
into nodes; `convention` how a framework turns time into steps; `canonical_neuron` the one form of
all neurons, and the approximations; `nir_layers` nodes into layers of ours; `draft` the whole
graph; `floating` its run in float64; `run_agreement` the comparison with spikes that a framework
recorded; `importing` all of it in one call. For torch modules, `modules` knows the layers of other
frameworks, `observing` watches one run, and `torch_importing` makes a graph of it.
`nir_writer` goes the other way: a network of ours, in floats or integers, becomes a NIR file.
"""
