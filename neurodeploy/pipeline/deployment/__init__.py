"""From a trained network to a verified netx file.

- `preflight`: find out before training whether the network can be deployed.
- `steps`: deploy a network: the order of all that follows.
- `lowering`: trace, prune and fold the trained network.
- `fine_tuning`: train on in the chip's integers.
- `agreement`: compare floats, integers, file and real Lava.
- `relay_costs`: the price of relaying skip connections.
- `result`, `net_record`: the deployment as a value, and as the record beside the file.
"""
