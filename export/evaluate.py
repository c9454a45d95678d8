"""The reference: the torch model evaluated in float64 on its float32 weights, by graph and tensor name."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.artifact.golden import Inputs, Outputs
from export.artifact.manifest import ROLLOUTS, SLIDING, STEP
from training.cells import State
from training.model import ModelState, Prediction, RecurrentModel
from training.recent_error import RecentErrorState
from training.transform import DifferenceState, NoState, TransformState


class Reference:
    """Answers what any graph of the model should have answered."""

    def __init__(self, model: RecurrentModel, *, dtype: torch.dtype = torch.float64, rollout: int = 0) -> None:
        """`dtype` float64 is the reference; float32 shows what the torch model itself makes of the same weights.

        `rollout`: how many values the graphs of that kind give.
        """
        self._model = copy.deepcopy(model).to(dtype).eval()
        self._dtype = dtype
        self._rollout = rollout

    def run(self, graph: str, inputs: Inputs) -> Outputs:
        """Outputs of `graph` (STEP, one of ROLLOUTS, or any window graph) by tensor name, as float64 arrays."""
        tensors = {name: self._tensor(array) for name, array in inputs.items()}
        with torch.inference_mode():
            if graph == STEP:
                return self._step(tensors)
            if graph in ROLLOUTS:
                roll = self._sliding if graph == SLIDING else self._carry
                return _rolled(roll(tensors["window"], tensors.get("series")))
            return _named(self._model.predict(tensors["window"], tensors.get("time_seconds"), tensors.get("series")))

    def window(self, window_BTF: NDArray[np.float32]) -> NDArray[np.float64]:
        """The next values, [B, K], after each window of a model that needs nothing else."""
        return self.run("window", {"window": window_BTF})["next"]

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(np.array(array))
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def _sliding(self, window_BT1: Tensor, series_B1: Tensor | None) -> list[Prediction]:
        """Each value from zero state, on the last T that were seen or said."""
        said = []
        for _ in range(self._rollout):
            said.append(self._model.predict(window_BT1, None, series_B1))
            window_BT1 = torch.cat((window_BT1[:, 1:], said[-1].next[:, :, None]), dim=1)
        return said

    def _carry(self, window_BT1: Tensor, series_B1: Tensor | None) -> list[Prediction]:
        """Each value by a step from the state that the one before it left."""
        state = self._model.initial_state(window_BT1[:, 0])
        for value_B1 in window_BT1.unbind(dim=1):
            prediction, state = self._model.step(value_B1, state, None, series_B1)
        said = [prediction]
        while len(said) < self._rollout:
            prediction, state = self._model.step(said[-1].next, state, None, series_B1)
            said.append(prediction)
        return said

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


def _rolled(said: list[Prediction]) -> Outputs:
    """All values side by side; the unit, where there is one, is that of the first."""
    unit = said[0].unit
    values = {"next": _array(torch.cat([prediction.next for prediction in said], dim=1))}
    return values if unit is None else values | {"unit": _array(unit)}


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
