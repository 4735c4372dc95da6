"""Layers of other frameworks, known by the names of their classes; none of them is imported.

- `foreign_layer`: what one module of theirs becomes.
- `plain_layers`: torch's own layers, and those that frameworks derive from them.
- `norse_neurons`, `snntorch_neurons`, `spikingjelly_neurons`, `sinabs_neurons`, `rockpool_neurons`:
  the neurons of each.
- `slayer_blocks`: lava-dl's blocks, weights and neurons in one.
"""
