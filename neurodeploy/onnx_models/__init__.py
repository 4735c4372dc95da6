"""ONNX models: counted and measured as the other side of a comparison, and written.

reading         a model with every shape inferred, in bounded memory
operators       MACs of single operators, from shapes
macs            MACs of a model, node by node
measured_zeros  multiplications by zero on samples, and the model as a report's baseline
builder         a graph that grows node by node
twin_export     a network's ReLU twin as a model
step_export     one step of a deployed network as a model in integers
"""
