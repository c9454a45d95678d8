"""python -m export: publish a run as an artifact."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from export.artifact.errors import ArtifactError
from export.artifact.manifest import PlanEntry, Precision
from export.build import ROLLOUT, export
from export.errors import ExportError
from training.run import RunError, load_run


def parser() -> argparse.ArgumentParser:
    """Every option with its default."""
    top = argparse.ArgumentParser(
        prog="python -m export",
        description="Unroll a fitted model to ONNX, hold it against the torch reference, and publish it.",
        allow_abbrev=False,
    )
    top.add_argument("--run", type=Path, required=True, metavar="runs/NAME", help="the run to export")
    top.add_argument("--models", type=Path, required=True, metavar="DIR", help="model repository to publish into")
    top.add_argument("--name", required=True, help="the model's name")
    top.add_argument("--version", type=int, help="the version (default: one more than the newest)")
    top.add_argument(
        "--no-tune",
        action="store_true",
        help="do not time the graphs: the same plan on every machine, the unrolled graph for all batch sizes",
    )
    top.add_argument(
        "--rollout",
        type=int,
        default=ROLLOUT,
        metavar="R",
        help="so many values ahead in one run, where a graph can give them; 0: none (default: %(default)s)",
    )
    top.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="float16: beside the others a graph for GPUs whose cells compute in float16, with a tolerance of its own",
    )
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, export, say what was published. Returns the exit status."""
    options = parser().parse_args(argv)
    try:
        published = export(
            load_run(options.run),
            models=options.models,
            name=options.name,
            version=options.version,
            tune=not options.no_tune,
            rollout=options.rollout,
            precision=options.precision,
        )
    except (RunError, ExportError, ArtifactError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("export: interrupted; nothing was published", file=sys.stderr)
        return 130
    nodes = ", ".join(f"{name} {count} nodes" for name, count in published.num_nodes.items())
    print(
        f"{published.folder}: {nodes}; worst parity error {published.worst.abs_error:.3g}, "
        f"{100 * published.worst.share_of_limit:.2g} % of the limit"
    )
    print(f"plan: {_plan_line(published.plan)}")
    for graph, reason in published.not_rolled.items():
        print(f"no {graph} of {options.rollout} values in one graph: {reason}")
    return 0


def _plan_line(plan: Sequence[PlanEntry]) -> str:
    """Which graph runs up to how many windows."""
    *smaller, last = plan
    return ", ".join([*(f"{entry.graph} up to {entry.max_batch} windows" for entry in smaller), f"{last.graph} beyond"])


if __name__ == "__main__":
    sys.exit(main())
