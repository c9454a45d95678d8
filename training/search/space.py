"""What a search may choose: each trial is a list of options that `python -m training fit` takes."""

import optuna

from training.cells import HAND_WRITTEN
from training.transform import TRANSFORMS

HIDDEN_SIZES = (16, 32, 64, 128)
BATCH_SIZES = (64, 256)
AVERAGES = (0.0, 0.99)
AUGMENTED = (0.0, 0.5)
LEARNING_RATES = (1e-3, 3e-2)
WEIGHT_DECAYS = (1e-5, 1e-1)


def suggest(
    trial: optuna.Trial,
    *,
    cells: tuple[str, ...],
    windows: tuple[int, ...],
    transforms: tuple[str, ...] = tuple(TRANSFORMS),
    is_steppable: bool = True,
    can_skip: bool = True,
) -> list[str]:
    """The options of one trial. What makes no sense beside another choice is not asked for."""
    cell = str(trial.suggest_categorical("cell", cells))
    window = int(trial.suggest_categorical("window", windows))
    num_layers = trial.suggest_int("layers", 1, 2)
    transform = str(trial.suggest_categorical("transform", transforms))
    chosen = {
        "cell": cell,
        "window": window,
        "hidden": trial.suggest_categorical("hidden", HIDDEN_SIZES),
        "layers": num_layers,
        "transform": transform,
        "output-depth": trial.suggest_int("output-depth", 1, 2),
        "learning-rate": f"{trial.suggest_float('learning-rate', *LEARNING_RATES, log=True):.3g}",
        "weight-decay": f"{trial.suggest_float('weight-decay', *WEIGHT_DECAYS, log=True):.3g}",
        "batch-size": trial.suggest_categorical("batch-size", BATCH_SIZES),
        "average": trial.suggest_categorical("average", AVERAGES),
        "augment": trial.suggest_categorical("augment", AUGMENTED),
    }
    options = []
    if can_skip and trial.suggest_categorical("linear-skip", (False, True)):
        options.append("--linear-skip")
    is_steppable = is_steppable and window > 1 and TRANSFORMS[transform].steppable
    if is_steppable and trial.suggest_categorical("half-the-steps", (False, True)):
        chosen["loss-steps"] = (window + 1) // 2
    options += [word for name, value in chosen.items() for word in (f"--{name}", str(value))]
    if num_layers > 1 and cell in HAND_WRITTEN and trial.suggest_categorical("residual", (False, True)):
        options.append("--residual")
    return options
