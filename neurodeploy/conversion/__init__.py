"""Conversion of ReLU networks to sigma-delta neurons.

- `chain`: the form in between, a chain of rectified layers.
- `chaining`: a graph becomes stages, and they a chain.
- `stage_joining`: stages become layers, with relays.
- `module_tracing`: a torch module becomes a graph.
- `module_layers`: the layers that its modules and functions are.
- `scaling`: message units of every channel.
- `rounding`: weights and biases become integers.
- `assembly`: the integer network, and runs of it in Lava's own time.
- `thresholds`: which changes are worth a message.
- `judging`: errors against the network, over time as well.
- `proofs`: limits of the integers, measured and proved.
- `converting`: all of it, measured.
"""
