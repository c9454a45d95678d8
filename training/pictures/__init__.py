"""Pictures for a person to judge a run by. Each function returns the figure; `png` makes a file of it."""

from training.pictures.backtest import backtest_picture
from training.pictures.losses import loss_picture
from training.pictures.png import png

__all__ = ["backtest_picture", "loss_picture", "png"]
