"""Every panel is labelled, and shows the numbers of the trace."""

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.training.explain.samples import H, T, model_of, window_for
from training.explain.picture import Words, explain_picture
from training.explain.trace import Trace, trace

STEPS = list(range(1 - T, 1))


def picture_of(cell: str, **options: object) -> tuple[Trace, Figure]:
    model = model_of(cell, **options)
    found = trace(model, window_for(model))
    names = tuple(f"channel {i}" for i in range(found.inputs.shape[1]))
    words = Words(
        cell=cell,
        features=("load", "rain"),
        inputs=names,
        transform="standardize",
        window="load, window 7 of 9",
        levels=model.config.levels,
    )
    return found, explain_picture(found, words)


def legend(panel: Axes) -> list[str]:
    box = panel.get_legend()
    assert box is not None, panel.get_title()
    return [text.get_text() for text in box.get_texts()]


def panels(figure: Figure) -> list[Axes]:
    """The panels row by row, without the colour bars."""
    return [axes for axes in figure.axes if axes.get_title()]


def line(panel: Axes, label: str) -> list[float]:
    (found,) = [one for one in panel.get_lines() if str(one.get_label()).startswith(label)]
    values: list[float] = np.asarray(found.get_ydata()).tolist()
    return values


def test_an_lstms_panels_say_what_they_show() -> None:
    found, figure = picture_of("lstm")
    assert figure.get_suptitle() == (
        f"lstm: load, window 7 of 9\nloss: the squared error of this prediction, in scaled units: {found.loss:.3g}"
    )
    values, inputs, gates, forget, gradients, memory = panels(figure)
    assert [panel.get_title() for panel in panels(figure)] == [
        "the window, in the target's own units",
        "what the cells read (standardize)",
        "gates: mean of the units, band 10 to 90 %",
        "forget gate, unit by unit",
        "how far back the loss reaches",
        "memory c, unit by unit",
    ]
    assert [panel.get_ylabel() for panel in panels(figure)] == [
        "load",
        "scaled units",
        "gate (0 shut, 1 open)",
        "hidden unit, by its mean",
        "length of the gradient (log)",
        "hidden unit, by its mean",
    ]
    for panel in (gradients, memory):
        assert panel.get_xlabel() == "steps before the prediction is made (0: the last value seen)"
    assert legend(values) == ["window", "truth", "prediction"]
    assert legend(inputs) == ["channel 0", "channel 1"]
    assert legend(gates) == ["forget gate: kept", "input gate: written", "output gate: shown"]
    assert legend(gradients) == ["‖∂loss/∂h‖", "‖∂loss/∂c‖"]
    assert gradients.get_yscale() == "log"
    bars = [axes.get_ylabel() for axes in figure.axes if not axes.get_title()]
    assert bars == ["share of the memory kept", "memory c (no unit)"]
    assert forget.images[0].get_clim() == (0, 1)
    low, high = memory.images[0].get_clim()
    assert low == -high


def test_the_numbers_drawn_are_the_traces() -> None:
    found, figure = picture_of("lstm")
    values, inputs, gates, forget, gradients, memory = panels(figure)
    (cell,) = found.cells
    assert line(values, "window") == found.window[:, 0].tolist()
    assert line(values, "truth") == found.truth.tolist()
    assert line(values, "prediction") == found.prediction.tolist()
    assert line(inputs, "channel 1") == found.inputs[:, 1].tolist()
    for name in ("forget gate", "input gate", "output gate"):
        assert line(gates, name) == pytest.approx(cell.gates[name].mean(axis=1))
    assert line(gradients, "‖∂loss/∂h‖") == found.gradients[0].h.tolist()
    assert line(gradients, "‖∂loss/∂c‖") == np.asarray(found.gradients[0].c).tolist()
    for panel, values_TH in ((forget, cell.gates["forget gate"]), (memory, cell.memory)):
        drawn_HT = np.asarray(panel.images[0].get_array())
        assert drawn_HT.shape == (H, T)
        assert drawn_HT == pytest.approx(values_TH.T[np.argsort(values_TH.mean(axis=0))])
        assert tuple(panel.images[0].get_extent()) == (0.5 - T, 0.5, 0.5, H + 0.5)
    assert np.asarray(gates.get_lines()[-1].get_xdata()).tolist() == STEPS


@pytest.mark.parametrize(
    ("cell", "lines", "deciding", "unit"),
    [
        ("gru", ["update gate: replaced", "reset gate: past seen by the new"], "update gate", "share replaced"),
        ("nn.gru", ["update gate: replaced", "reset gate: past seen by the new"], "update gate", "share replaced"),
        ("rnn", ["|h|: at 1 tanh passes nothing back"], "saturation", "|h|"),
    ],
)
def test_other_kinds_show_what_they_have(cell: str, lines: list[str], deciding: str, unit: str) -> None:
    found, figure = picture_of(cell)
    _, _, gates, map_of_units, gradients, memory = panels(figure)
    assert legend(gates) == lines
    assert map_of_units.get_title() == f"{deciding}, unit by unit"
    assert memory.get_title() == "memory h, unit by unit"
    assert legend(gradients) == ["‖∂loss/∂h‖"]
    assert [axes.get_ylabel() for axes in figure.axes if not axes.get_title()] == [unit, "memory h (no unit)"]
    if cell == "rnn":
        assert line(gates, "|h|") == pytest.approx(np.abs(found.cells[0].memory).mean(axis=1))


def test_light_is_what_is_kept() -> None:
    """A forget gate of 1 keeps and an update gate of 1 replaces, so their maps run the other way round."""

    def brightness(figure: Figure, value: float) -> float:
        image = panels(figure)[3].images[0]
        red, green, blue = matplotlib.colors.to_rgb(image.get_cmap()(value))
        return red + green + blue

    lstm, gru = picture_of("lstm")[1], picture_of("gru")[1]
    assert brightness(lstm, 1.0) > brightness(lstm, 0.0)
    assert brightness(gru, 0.0) > brightness(gru, 1.0)


def test_layers_have_a_row_each_the_top_one_first() -> None:
    found, figure = picture_of("gru", num_layers=3, residual=True)
    titles = [panel.get_title() for panel in panels(figure)]
    assert titles[2::2][:3] == [f"gates: mean of the units, band 10 to 90 %, layer {k} of 3" for k in (3, 2, 1)]
    assert titles[-1] == "memory h, unit by unit, layer 3 of 3"
    gradients = panels(figure)[-2]
    assert legend(gradients) == [f"‖∂loss/∂h‖, layer {k} of 3" for k in (1, 2, 3)]
    assert line(gradients, "‖∂loss/∂h‖, layer 1") == found.gradients[0].h.tolist()


def test_intervals_and_several_horizons_are_drawn() -> None:
    found, figure = picture_of("lstm", horizon=3, intervals="conformal", levels=(0.5, 0.9))
    values = panels(figure)[0]
    assert legend(values) == ["window", "truth", "prediction", "90% interval"]
    assert line(values, "prediction") == found.prediction.tolist()
    assert found.lower is not None
    assert found.upper is not None
    (bars,) = values.collections
    drawn = [np.asarray(path.vertices)[:, 1].tolist() for path in bars.get_paths()]
    assert drawn == [pytest.approx(ends) for ends in zip(found.lower[:, 1], found.upper[:, 1], strict=True)]


def test_more_inputs_than_can_be_told_apart_are_counted() -> None:
    _, figure = picture_of("lstm", calendar=("day", "week"))
    assert legend(panels(figure)[1]) == [*(f"channel {i}" for i in range(6)), "and 8 more"]


def test_a_right_prediction_has_no_gradient_to_draw() -> None:
    """Nothing of it fits a logarithm."""
    model = model_of("gru")
    batch = window_for(model)
    right = trace(model, batch).prediction
    found = trace(model, batch._replace(targets=right[None]))
    if found.loss > 0:
        pytest.skip("the loss is not exactly 0 on this machine")
    words = Words(cell="gru", features=("y", "x"), inputs=("y", "x"), transform="t", window="w", levels=())
    panel = panels(explain_picture(found, words))[-2]
    assert [text.get_text() for text in panel.texts] == ["no error, no gradient"]
    assert panel.get_yscale() == "linear"


def test_no_words_lie_over_other_words() -> None:
    """Titles, labels and legends, as they are drawn, of the picture with the most words."""
    _, figure = picture_of("lstm", num_layers=2, intervals="conformal", levels=(0.9,))
    figure.draw_without_rendering()
    boxes = [
        (str(words), words.get_window_extent())
        for axes in figure.axes
        for words in (axes.title, axes.xaxis.label, axes.yaxis.label, axes.get_legend())
        if words is not None and getattr(words, "get_text", lambda: "legend")()
    ]
    assert len(boxes) > 15
    for i, (one, box) in enumerate(boxes):
        assert not [other for other, its in boxes[i + 1 :] if box.overlaps(its)], one
