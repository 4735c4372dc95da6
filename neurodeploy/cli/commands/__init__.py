"""One file a command, named as the command.

recipes   `recipes` and `init`: built-in recipes, every key of one, one for own samples
train     `train` and `run`: train a network, or run the whole pipeline
deploy    turn a trained network into a verified netx file
simulate  `simulate` and `verify`: run a netx file, or compare it with real Lava
report    count operations and estimate energy
compare   several networks side by side
inspect   `inspect` and `fit`: the layers of a netx file, an estimate of cores
zoo       `zoo list` and `zoo get`: the verified networks that come with neurodeploy
export    ONNX files
models    `macs` and `convert`: count an ONNX model, or convert it to sigma-delta neurons
lava      `lava install` and `lava doctor`
doctor    check the installation
"""
