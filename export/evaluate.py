"""The reference: the torch model evaluated in float64 on its float32 weights, by graph and tensor name."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.artifact.golden import Inputs, Outputs
from training.cells import State
from training.model import ModelState, Prediction, RecurrentModel
from training.recent_error import RecentErrorState
from training.transform import DifferenceState, NoState, TransformState


class Reference:
    """Answers what any graph of the model should have answered."""

    def __init__(self, model: RecurrentModel, *, dtype: torch.dtype = torch.float64) -> None:
        """`dtype` float64 is the reference; float32 shows what the torch model itself makes of the same weights."""
        self._model = copy.deepcopy(model).to(dtype).eval()
        self._dtype = dtype

    def run(self, graph: str, inputs: Inputs) -> Outputs:
        """Outputs of `graph` ("step", or any window graph) by tensor name, as float64 arrays."""
        tensors = {name: self._tensor(array) for name, array in inputs.items()}
        with torch.inference_mode():
            if graph == "step":
                return self._step(tensors)
            return _named(self._model.predict(tensors["window"], tensors.get("time_seconds"), tensors.get("series")))

    def window(self, window_BTF: NDArray[np.float32]) -> NDArray[np.float64]:
        """The next values, [B, K], after each window of a model that needs nothing else."""
        return self.run("window", {"window": window_BTF})["next"]

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(np.array(array))
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def _step(self, tensors: dict[str, Tensor]) -> Outputs:
        value_BF = tensors["value"]
        zero = self._model.initial_state(value_BF)
        state = ModelState(
            layers=[
                type(layer)(*(tensors[f"initial_{field}.{k}"] for field in layer._fields))
                for k, layer in enumerate(zero.layers)
            ],
            transform=type(zero.transform)(*(tensors[f"initial_{field}"] for field in zero.transform._fields)),
            recent_error=None
            if zero.recent_error is None
            else RecentErrorState(*(tensors[f"initial_{field}"] for field in RecentErrorState._fields)),
        )
        prediction, after = self._model.step(value_BF, state, tensors.get("time_seconds"), tensors.get("series"))
        named = named_state(after.layers, after.transform, after.recent_error)
        return _named(prediction) | {f"final_{name}": _array(tensor) for name, tensor in named.items()}

    def step_inputs(self, inputs: Inputs) -> Inputs:
        """Inputs of a step graph as they occur: the state after all but the last value of each window."""
        tensors = {name: self._tensor(array) for name, array in inputs.items()}
        window, times, series = tensors["window"], tensors.get("time_seconds"), tensors.get("series")
        with torch.inference_mode():
            state = self._model.initial_state(window[:, 0])
            for t in range(window.shape[1] - 1):
                time = None if times is None else times[:, t : t + 1]
                _, state = self._model.step(window[:, t], state, time, series)
        named = named_state(state.layers, state.transform, state.recent_error)
        context: Inputs = {} if times is None else {"time_seconds": inputs["time_seconds"][:, -1:]}
        if series is not None:
            context["series"] = inputs["series"]
        return (
            {"value": inputs["window"][:, -1]}
            | context
            | {f"initial_{name}": tensor.numpy().astype(np.float32) for name, tensor in named.items()}
        )


def _named(prediction: Prediction) -> Outputs:
    return {name: _array(tensor) for name, tensor in prediction._asdict().items() if tensor is not None}


def named_state(
    layers: list[State], transform: TransformState, recent_error: RecentErrorState | None = None
) -> dict[str, Tensor]:
    """State tensors by the names step graphs give them: `h.0`, `c.0`, …, `last`, `seen`, and of recent_error."""
    named = {
        f"{field}.{k}": tensor
        for k, layer in enumerate(layers)
        for field, tensor in zip(layer._fields, layer, strict=True)
    }
    if isinstance(transform, DifferenceState):
        named |= {"last": transform.last, "seen": transform.seen}
    else:
        assert isinstance(transform, NoState)
    return named if recent_error is None else named | recent_error._asdict()


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.to(torch.float64).numpy()
