"""From a trained network to a verified netx file.

- `lowering`: trace, prune and fold a network; check before training that it can be deployed.
- `steps`: deploy a network: the order of all that follows.
- `fine_tuning`: train on in the chip's integers: our networks, and imported ones.
- `integer_network`: the network that is trained so, spike for spike the deployed one.
- `given_samples`: samples for an imported network: integers, classes, and their parts.
- `agreement`: compare floats, integers, file and real Lava.
- `result`: the deployment as a value, its costs, and the record beside the file.
"""
