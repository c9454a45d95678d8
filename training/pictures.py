"""Pictures for a person to judge a run by, as PNG bytes."""

from collections.abc import Sequence
from io import BytesIO

from matplotlib.figure import Figure

from training.backtest import Backtest, Predictions
from training.fit import EpochMetrics

# As many predictions as can still be told apart in one picture.
SHOWN_PREDICTIONS = 200


def loss_picture(history: Sequence[EpochMetrics]) -> bytes:
    """Losses over the epochs, with the epoch whose weights were kept."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    epochs = [metrics.epoch for metrics in history]
    axes.semilogy(epochs, [metrics.train_loss for metrics in history], label="fit")
    axes.semilogy(epochs, [metrics.validation_loss for metrics in history], label="validation")
    kept = max(metrics.epoch for metrics in history if metrics.is_best)
    axes.axvline(kept, color="0.6", linestyle="--", label=f"weights kept (epoch {kept})")
    axes.set_xlabel("epoch")
    axes.set_ylabel("Huber loss, scaled units")
    axes.legend()
    return _png(figure)


def backtest_picture(backtest: Backtest, predictions: Predictions) -> bytes:
    """Truth and prediction over the last stretch of the test, and by how much each prediction was off."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    ours = backtest.rows[0].name
    targets = predictions.targets[-SHOWN_PREDICTIONS:]
    predicted = predictions.predictions[ours][-SHOWN_PREDICTIONS:]
    last = predictions.predictions["last value"][-SHOWN_PREDICTIONS:]
    total = len(predictions.targets)
    places = range(total - len(targets) + 1, total + 1)
    above.plot(places, targets, color="black", linewidth=1.2, label="truth")
    above.plot(places, predicted, color="tab:orange", linewidth=1.2, label=ours)
    above.set_ylabel(backtest.protocol.target)
    above.legend()
    below.plot(places, last - targets, color="0.7", linewidth=1, label="last value")
    below.plot(places, predicted - targets, color="tab:orange", linewidth=1, label=ours)
    below.axhline(0, color="black", linewidth=0.6)
    below.set_ylabel("prediction - truth")
    below.set_xlabel(f"test value (the last {len(targets)} of {total}), one step ahead")
    below.legend()
    errors = "     ".join(f"{row.name}: RMSE {row.rmse:.4g}, MAE {row.mae:.4g}" for row in backtest.rows)
    figure.suptitle(errors)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
