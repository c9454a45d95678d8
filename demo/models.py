"""What the demo fits, and the public series it writes to CSV."""

from dataclasses import dataclass
from pathlib import Path

from statsmodels.datasets import co2, sunspots

# What the article got after 45…49, one prediction fed into the next.
ARTICLE = (49.966102600097656, 50.8197021484375, 51.54384231567383, 52.14518737792969, 52.62910842895508)

SEED_CELLS = ("lstm", "gru", "nn.lstm", "nn.gru", "rnn")
STEP_CELLS = ("lstm", "gru")
REAL_SERIES = ("co2", "sunspots")


@dataclass(frozen=True)
class Fit:
    """One model: its name in the repository and the options of `python -m training fit`."""

    name: str
    options: tuple[str, ...]


def seed_name(cell: str) -> str:
    """The model's name for a cell kind fitted on the counting example."""
    return f"seed-{cell.replace('.', '-')}"


def fits(data: Path) -> list[Fit]:
    """Every model of the demo; the slow ones first, so that two workers end together."""
    return [
        Fit(
            "co2",
            (
                "--data",
                str(data / "co2.csv"),
                "--gaps",
                "interpolate",
                "--cell",
                "gru",
                "--window",
                "52",
                "--epochs",
                "40",
            ),
        ),
        Fit(
            "sunspots",
            ("--data", str(data / "sunspots.csv"), "--cell", "gru", "--window", "22", "--transform", "standardize"),
        ),
        *(Fit(f"steps-{cell}", ("--data", "counting-steps", "--cell", cell)) for cell in STEP_CELLS),
        *(Fit(seed_name(cell), ("--data", "counting", "--cell", cell)) for cell in SEED_CELLS),
    ]


def write_series(folder: Path) -> None:
    """co2.csv (weekly, Mauna Loa, with gaps) and sunspots.csv (yearly) from statsmodels; both public domain."""
    folder.mkdir(parents=True, exist_ok=True)
    co2.load_pandas().data.rename_axis("week").to_csv(folder / "co2.csv")
    years = sunspots.load_pandas().data
    years["YEAR"] = years["YEAR"].astype(int).astype(str) + "-01-01"
    years.rename(columns={"YEAR": "year", "SUNACTIVITY": "sunspots"}).to_csv(folder / "sunspots.csv", index=False)
