"""Ways to run one model, each on a batch that is bound once, so that a run costs the run alone.

    ours        the graph that the plan gives this batch, in onnxruntime
    ORT node    ONNX's recurrent node with the standardising beside it, in onnxruntime
    torch.onnx  what torch.onnx.export makes of the model with its cells written out, in onnxruntime
    torch.nn    nn.LSTM or nn.GRU in inference mode; the article's GRU has no such module
    OpenVINO    both of the graphs above, in a process of its own environment; the faster counts

All onnxruntime sides get the session options of the server, and bound inputs and outputs.
"""

import json
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from training.model import ModelConfig, RecurrentModel

Array = NDArray[np.float32]
TORCH_KINDS = {"lstm": "nn.lstm", "gru-reset-after": "nn.gru"}
SCRIPT = Path(__file__).parent / "peers" / "openvino_peer.py"


class Side(Protocol):
    """A way to run the model on a batch that it was given."""

    def seconds(self, repeats: int) -> float:
        """For so many runs."""
        ...

    def value(self) -> Array:
        """What the last run gave, [B, 1]."""
        ...


class Bound:
    """A session of onnxruntime with its input and output bound."""

    def __init__(self, session: ort.InferenceSession, windows_BTF: Array) -> None:
        self._run = session.run_with_iobinding
        self._binding = session.io_binding()
        self._output = ort.OrtValue.ortvalue_from_numpy(np.zeros((len(windows_BTF), 1), np.float32))
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, ort.OrtValue.ortvalue_from_numpy(windows_BTF))
        self._binding.bind_ortvalue_output(session.get_outputs()[0].name, self._output)

    def seconds(self, repeats: int) -> float:
        """For so many runs."""
        run, binding = self._run, self._binding
        begun = time.perf_counter()
        for _ in range(repeats):
            run(binding)
        return time.perf_counter() - begun

    def value(self) -> Array:
        """What the last run gave."""
        found: Array = self._output.numpy().copy()
        return found


class Module:
    """A torch module in inference mode."""

    def __init__(self, module: nn.Module, windows_BTF: Array) -> None:
        self._module = module
        self._windows = torch.from_numpy(windows_BTF)
        self._last = torch.zeros(())

    @torch.inference_mode()
    def seconds(self, repeats: int) -> float:
        """For so many runs."""
        begun = time.perf_counter()
        for _ in range(repeats):
            self._last = self._module(self._windows)
        return time.perf_counter() - begun

    def value(self) -> Array:
        """What the last run gave."""
        found: Array = self._last.numpy().copy()
        return found


class OpenVino:
    """The process that runs OpenVINO."""

    def __init__(self, python: Path) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [str(python), str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def load(self, graph: bytes, windows_BTF: Array) -> "Remote":
        """A graph with its input bound."""
        folder = Path(self._folder.name)
        (folder / "graph.onnx").write_bytes(graph)
        np.save(folder / "windows.npy", windows_BTF)
        return Remote(self, self.ask(load=str(folder / "graph.onnx"), windows=str(folder / "windows.npy")))

    def ask(self, **question: Any) -> Any:
        """Its answer. Raises RuntimeError if it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the OpenVINO process ended")
        return json.loads(line)

    def array(self, number: int) -> Array:
        """The last output of a graph."""
        path = Path(self._folder.name) / "output.npy"
        self.ask(value=number, into=str(path))
        found: Array = np.load(path)
        return found

    def clear(self) -> None:
        """Let go of all graphs."""
        self.ask(clear=True)

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)
        self._folder.cleanup()


class Remote:
    """A graph in the OpenVINO process, timed by that process's clock."""

    def __init__(self, process: OpenVino, number: int) -> None:
        self._process = process
        self._number = number

    def seconds(self, repeats: int) -> float:
        """For so many runs."""
        found: float = self._process.ask(run=self._number, repeats=repeats)
        return found

    def value(self) -> Array:
        """What the last run gave."""
        return self._process.array(self._number)


def make_model(kind: str, *, hidden_size: int, window: int, intervals: str = "none") -> RecurrentModel:
    """One layer, one feature, standardised; weights as torch draws them; one level of `intervals`."""
    torch.manual_seed(0)
    config = ModelConfig(
        cell=kind,
        window=window,
        num_features=1,
        hidden_size=hidden_size,
        num_layers=1,
        transform="standardize",
        intervals=intervals,
        levels=() if intervals == "none" else (0.9,),
    )
    model = RecurrentModel(config)
    for name, value in (("mean", 0.5), ("scale", 2.0), ("target_mean", 0.5), ("target_scale", 2.0)):
        getattr(model.transform, name).fill_(value)
    return model.eval()


def torch_module(model: RecurrentModel) -> RecurrentModel | None:
    """The same function by nn.LSTM or nn.GRU; None where torch has none."""
    kind = TORCH_KINDS.get(model.config.cell)
    if kind is None:
        return None
    other = make_model(kind, hidden_size=model.config.hidden_size, window=model.config.window)
    recurrent = other.stack.recurrent
    assert isinstance(recurrent, nn.RNNBase)
    hidden = model.config.hidden_size
    names = {
        "lstm": (("input_gate", 1), ("forget_gate", 1), ("cell_gate", 1), ("output_gate", 1)),
        "gru-reset-after": (("reset_gate", 1), ("update_gate", -1)),
    }[model.config.cell]
    own = model.state_dict()
    of_input, of_state, bias = [], [], []
    for name, sign in names:
        weight = sign * own[f"stack.layers.0.{name}.weight"]
        of_input.append(weight[:, :-hidden])
        of_state.append(weight[:, -hidden:])
        bias.append(sign * own[f"stack.layers.0.{name}.bias"])
    state_bias = [torch.zeros_like(each) for each in bias]
    if model.config.cell == "gru-reset-after":
        of_input.append(own["stack.layers.0.hidden_candidate_input.weight"])
        of_state.append(own["stack.layers.0.hidden_candidate_hidden.weight"])
        bias.append(own["stack.layers.0.hidden_candidate_input.bias"])
        state_bias.append(own["stack.layers.0.hidden_candidate_hidden.bias"])
    with torch.no_grad():
        for parameter, parts in zip(recurrent.all_weights[0], (of_input, of_state, bias, state_bias), strict=True):
            parameter.copy_(torch.cat(parts))
        other.head.load_state_dict(model.head.state_dict())
    return other


def torch_onnx(model: RecurrentModel, batch: int) -> bytes:
    """What torch.onnx.export makes of the model for one batch size: tracing turns the zero state into a constant."""
    windows_BTF = torch.zeros(batch, model.config.window, 1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            model,
            (windows_BTF,),
            str(path),
            dynamo=False,
            opset_version=20,
            input_names=["window"],
            output_names=["next"],
        )
        return path.read_bytes()
