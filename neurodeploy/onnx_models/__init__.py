"""ONNX models: counted and measured as the other side of a comparison, and written.

sessions        models that onnxruntime reads
shapes          the shape of every tensor, also where it follows from values
reading         a model from a file, its sizes bound
operators       MACs of single operators, from shapes
macs            MACs of a model, node by node
zero_masks      operators on masks, which count products of nonzero values
measured_zeros  multiplications by zero on samples, and the model as a report's baseline
rectified_nodes its nodes as layers, or the reasons why they are none
rectified_network
                a model as a `Graph` of them, for conversion
builder         a graph that grows node by node
twin_export     a network's ReLU twin as a model
step_export     one step of a deployed network as a model in integers
"""
