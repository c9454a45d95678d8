"""A small builder over onnx.helper: names nodes, shares initialisers, fixes opset and IR version."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.artifact.manifest import Tensor

# onnx's defaults are newer than onnxruntime 1.31 loads, and RNN nodes from opset 22 on have no CUDA kernel there.
OPSET = 20
IR_VERSION = 9

# The end of any axis, as Slice takes it.
END = 2**31 - 1

# Nodes whose every output may be left out.
RECURRENT = ("RNN", "LSTM", "GRU")

Attribute = int | list[int] | onnx.GraphProto


class GraphBuilder:
    """Collects nodes; every method returns the name of the value it made."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """`weights` are the initialisers that `weight` may name; each is stored once, however often it is used."""
        self._weights = weights
        self._initializers: dict[str, TensorProto] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._prefix = ""
        # Behind the names of initialisers, and what they are rounded to.
        self._suffix = ""
        self._dtype: type[np.floating[Any]] = np.float32

    def body(self, prefix: str) -> "GraphBuilder":
        """A builder for a graph inside this one, which names its values behind `prefix` and shares the initialisers."""
        inner = GraphBuilder(self._weights)
        inner._initializers = self._initializers
        inner._prefix = f"{prefix}."
        return inner

    def part(self, prefix: str) -> "GraphBuilder":
        """A builder that writes into this graph, and names its values behind `prefix`."""
        same = GraphBuilder(self._weights)
        same._initializers = self._initializers
        same._nodes = self._nodes
        same._prefix = f"{prefix}."
        return same

    def half(self) -> "GraphBuilder":
        """A builder that adds to this very graph, with float16 initialisers."""
        inner = GraphBuilder(self._weights)
        inner._initializers, inner._nodes, inner._prefix = self._initializers, self._nodes, self._prefix
        inner._suffix, inner._dtype = ".float16", np.float16
        return inner

    def named(self, name: str) -> str:
        """A name that no value of another body or part has."""
        return self._prefix + name

    def op(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Attribute) -> str:
        """Add a node with one output, named `output` or after the node."""
        return self.multi_op(
            op_type, *inputs, outputs=[output or self.named(f"{op_type}_{len(self._nodes)}")], **attributes
        )[0]

    def multi_op(self, op_type: str, *inputs: str, outputs: list[str], **attributes: Attribute) -> list[str]:
        """Add a node with several outputs."""
        name = self.named(f"{op_type}_{len(self._nodes)}")
        node = helper.make_node(op_type, list(inputs), outputs, name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self._nodes.append(node)
        return outputs

    def rename(self, value: str, name: str) -> None:
        """Give the output of the newest node another name."""
        outputs = self._nodes[-1].output
        assert outputs[0] == value, "only what nothing reads yet can be renamed"
        outputs[0] = name

    def weight(self, name: str) -> str:
        """An initialiser with one of the model's own arrays."""
        return self.constant(name, self._weights[name])

    def constant(self, name: str, array: NDArray[np.float32]) -> str:
        """An initialiser with an array made for the graph, stored once under its name."""
        stored = name + self._suffix
        if stored not in self._initializers:
            contiguous = np.ascontiguousarray(array, self._dtype)
            self._initializers[stored] = numpy_helper.from_array(contiguous, stored)
        return stored

    def ints(self, *values: int) -> str:
        """An INT64 vector, stored once for all who ask for the same."""
        name = "ints_" + "_".join(str(value).replace("-", "minus") for value in values)
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def scalar(self, value: float) -> str:
        """A float32 scalar, stored once."""
        name = f"float_{value!r}"
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.array(value, np.float32), name)
        return name

    def int_scalar(self, value: int) -> str:
        """An INT64 scalar, stored once."""
        name = f"int_{value}".replace("-", "minus")
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.array(value, np.int64), name)
        return name

    def cast_to_float(self, x: str) -> str:
        """An INT64 or float16 value as float32."""
        return self.op("Cast", x, to=int(TensorProto.FLOAT))

    def cast_to_half(self, x: str) -> str:
        """A float32 value as float16; beyond its largest number it is that, where a plain Cast gives infinity."""
        most = float(np.finfo(np.float16).max)
        clipped = self.op("Clip", x, self.scalar(-most), self.scalar(most))
        return self.op("Cast", clipped, to=int(TensorProto.FLOAT16))

    def join(self, *parts: str) -> str:
        """What `linear` reads: values [B, I] side by side."""
        return self.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]

    def linear(self, x: str, layer: str, *, of_input: bool = False) -> str:
        """Y = x Wᵀ + b with the weights of a torch.nn.Linear called `layer`.

        With `of_input` x lacks the state [B, H] that would stand behind it, H being W's rows; so do W's columns.
        """
        weight = self.constant(f"{layer}.weight" + ".input" * of_input, self.multiplied(layer, of_input=of_input))
        return self.op("Gemm", x, weight, self.bias(layer), transB=1)

    def bias(self, layer: str) -> str:
        """What `linear` gives of zeros, for every window."""
        return self.weight(f"{layer}.bias")

    def multiplied(self, layer: str, *, of_input: bool = False) -> NDArray[np.float32]:
        """A layer's W, or those of its columns that read the input."""
        weight_HJ = self._weights[f"{layer}.weight"]
        return weight_HJ[:, : weight_HJ.shape[1] - len(weight_HJ)] if of_input else weight_HJ

    def graph(
        self, name: str, inputs: list[Tensor], outputs: list[Tensor], initializers: Sequence[TensorProto] = ()
    ) -> onnx.GraphProto:
        """The nodes as a graph; one inside another has no initialisers of its own."""
        _leave_out_unread(self._nodes, outputs)
        return helper.make_graph(
            self._nodes,
            name,
            [_value_info(tensor) for tensor in inputs],
            [_value_info(tensor) for tensor in outputs],
            initializer=list(initializers),
        )

    def model(self, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> onnx.ModelProto:
        """The checked model."""
        model = helper.make_model(
            self.graph(name, inputs, outputs, list(self._initializers.values())),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="nextvalue",
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _leave_out_unread(nodes: Sequence[onnx.NodeProto], outputs: Sequence[Tensor]) -> None:
    """Recurrent nodes write no output that nobody reads: one is a buffer for every run."""
    read = {tensor.name for tensor in outputs}.union(*(_reads(node) for node in nodes))
    for node in nodes:
        if node.op_type in RECURRENT:
            kept = [name if name in read else "" for name in node.output]
            while not kept[-1]:
                kept.pop()
            node.output[:] = kept


def _reads(node: onnx.NodeProto) -> set[str]:
    """The values that a node reads, and the graphs inside it."""
    inner = [other for attribute in node.attribute for other in attribute.g.node]
    return set(node.input).union(*(_reads(other) for other in inner))


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    kind = TensorProto.INT64 if tensor.dtype == "int64" else TensorProto.FLOAT
    return helper.make_tensor_value_info(tensor.name, kind, list(tensor.shape))
