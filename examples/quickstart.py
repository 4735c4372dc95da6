"""Train on the digits, deploy, and show that real Lava computes the same spikes."""

import neurodeploy as nd

recipe = nd.Recipe.load("training/recipes/digits.toml")
train, validation, test = nd.load_data(recipe)
network = nd.SpikingNetwork.from_recipe(recipe)
nd.Trainer(recipe.training, shortcut=recipe.shortcut).fit(network, train, validation)

network = nd.remove_branches(network).eval()
graph = nd.run_passes(nd.trace(network), nd.fold_batchnorm, nd.fold_global_average_pool)
samples = train.windows(recipe.network.steps)[:256]
fixed = nd.calibrate(graph, nd.Target.load("loihi2"), samples).graph
nd.netx.write(fixed, "digits.net")

inputs = test.windows(recipe.network.steps)[:16]
bits = fixed.input.message_bits
lava = nd.LavaSimulator("digits.net", input_bits=bits, layer_names=fixed.names)
nd.testing.assert_bit_exact(nd.EventSimulator(fixed).run(inputs), lava.run(inputs))
print("every spike of every layer is equal")
