"""How a fit went."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from training.fit import EpochMetrics


def loss_picture(history: Sequence[EpochMetrics]) -> Figure:
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
    return figure
