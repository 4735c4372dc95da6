"""Functions of tensors: surrogate gradients and neuron dynamics, plain, fused and compiled."""
