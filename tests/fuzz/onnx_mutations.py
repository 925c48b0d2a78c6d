"""Mutations of ONNX files: nodes, names, attributes and initializers changed."""

import numpy as np
from byte_mutations import mutate_bytes

OPERATORS = (
    "Gemm",
    "MatMul",
    "Add",
    "Sub",
    "Div",
    "Mul",
    "Elu",
    "Relu",
    "Tanh",
    "Clip",
    "Min",
    "Max",
    "Constant",
    "Identity",
    "Loop",
    "x",
    "",
)


def mutate_onnx(content, rng):
    import onnx

    if rng.random() < 0.3:
        return mutate_bytes(content, rng)
    model = onnx.load_model_from_string(content)
    graph = model.graph
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(9))
        if not graph.node or not graph.initializer:
            break
        node = graph.node[rng.integers(len(graph.node))]
        constant = graph.initializer[rng.integers(len(graph.initializer))]
        if kind == 0:
            graph.node.remove(node)
        elif kind == 1:
            node.op_type = OPERATORS[rng.integers(len(OPERATORS))]
        elif kind == 2 and node.input:
            node.input[rng.integers(len(node.input))] = ("", "x", constant.name, node.output[0])[rng.integers(4)]
        elif kind == 3 and node.attribute:
            attribute = node.attribute[rng.integers(len(node.attribute))]
            attribute.f, attribute.i = float(rng.choice((np.nan, 0.0, -1.0, 1e30))), int(rng.integers(-3, 4))
        elif kind == 4:
            graph.node.insert(0, node)
        elif kind == 5:
            constant.dims[:] = [int(n) for n in rng.integers(0, 9, rng.integers(0, 4))]
        elif kind == 6:
            constant.data_type = int(rng.integers(0, 25))
        elif kind == 7:
            constant.raw_data = mutate_bytes(constant.raw_data, rng) if constant.raw_data else b"x"
        else:
            del graph.output[:]
    return model.SerializeToString()
