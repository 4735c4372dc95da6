"""Train on the digits, deploy, and show that real Lava computes the same spikes."""

import neurodeploy as nd

recipe = nd.Recipe.load("training/recipes/digits.toml", overrides={"training.epochs": "3"})
train, validation, test = nd.load_data(recipe)
network = nd.SpikingNetwork.from_recipe(recipe)
nd.Trainer(recipe.training, shortcut=recipe.shortcut).fit(network, train, validation)

network = nd.remove_branches(network).eval()
graph = nd.run_passes(nd.trace(network), nd.fold_batchnorm, nd.fold_global_average_pool)
inputs = test.windows(recipe.network.steps)[:16]
fixed = nd.calibrate(graph, nd.Target.load("loihi2"), inputs).graph
nd.netx.write(fixed, "digits.net")

lava = nd.LavaSimulator("digits.net", input_bits=fixed.input.message_bits)
nd.testing.assert_bit_exact(nd.EventSimulator(fixed).run(inputs), lava.run(inputs))
print("every spike of every layer is equal")
