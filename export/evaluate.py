"""The reference: the torch model evaluated in float64 on its float32 weights, by graph and tensor name."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.artifact.golden import Inputs, Outputs
from training.cells import State
from training.model import ModelState, RecurrentModel
from training.transform import DifferenceState, NoState, TransformState


class Reference:
    """Answers what any graph of the model should have answered."""

    def __init__(self, model: RecurrentModel, *, dtype: torch.dtype = torch.float64) -> None:
        """`dtype` float64 is the reference; float32 shows what the torch model itself makes of the same weights."""
        self._model = copy.deepcopy(model).to(dtype).eval()
        self._dtype = dtype

    def run(self, graph: str, inputs: Inputs) -> Outputs:
        """Outputs of `graph` ("step", or any window graph) by tensor name, as float64 arrays."""
        tensors = {name: torch.from_numpy(np.array(array)).to(self._dtype) for name, array in inputs.items()}
        with torch.inference_mode():
            if graph == "step":
                return self._step(tensors)
            return {"next": _array(self._model(tensors["window"]))}

    def window(self, window_BTF: NDArray[np.float32]) -> NDArray[np.float64]:
        """The next value, [B, 1], after each window."""
        return self.run("window", {"window": window_BTF})["next"]

    def _step(self, tensors: dict[str, Tensor]) -> Outputs:
        value_BF = tensors["value"]
        zero = self._model.initial_state(value_BF)
        state = ModelState(
            layers=[
                type(layer)(*(tensors[f"initial_{field}.{k}"] for field in layer._fields))
                for k, layer in enumerate(zero.layers)
            ],
            transform=type(zero.transform)(*(tensors[f"initial_{field}"] for field in zero.transform._fields)),
        )
        prediction, after = self._model.step(value_BF, state)
        return {"next": _array(prediction)} | {
            f"final_{name}": _array(tensor) for name, tensor in named_state(after.layers, after.transform).items()
        }

    def step_inputs(self, window_BTF: NDArray[np.float32]) -> Inputs:
        """Inputs of a step graph as they occur: the state after all but the last value of each window."""
        window = torch.from_numpy(window_BTF).to(self._dtype)
        with torch.inference_mode():
            state = self._model.initial_state(window[:, 0])
            for value_BF in window.unbind(dim=1)[:-1]:
                _, state = self._model.step(value_BF, state)
        named = named_state(state.layers, state.transform)
        return {"value": window_BTF[:, -1]} | {
            f"initial_{name}": tensor.numpy().astype(np.float32) for name, tensor in named.items()
        }


def named_state(layers: list[State], transform: TransformState) -> dict[str, Tensor]:
    """State tensors by the names step graphs give them: `h.0`, `c.0`, …, `last`, `seen`."""
    named = {
        f"{field}.{k}": tensor
        for k, layer in enumerate(layers)
        for field, tensor in zip(layer._fields, layer, strict=True)
    }
    if isinstance(transform, DifferenceState):
        return named | {"last": transform.last, "seen": transform.seen}
    assert isinstance(transform, NoState)
    return named


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.to(torch.float64).numpy()
