"""Networks as ONNX models: the ReLU twin in floats, one step of a deployed network in integers."""
