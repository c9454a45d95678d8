"""Everything in deploy/ is what the tools it is for take, and a slip of the pen in it does not go unseen."""

import os
import random
import re
import shutil
from pathlib import Path

import pytest

from tests.deploy.checks import OVERLAYS, Tools, checkov, names, problems, unknown_names

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# Where `make deploy-check` installs them.
FOUND = Tools.found(DEPLOY / ".venv" / "bin")
# So many in each file; all of them take a quarter of an hour: DEPLOY_TYPOS=all.
TYPOS = os.environ.get("DEPLOY_TYPOS", "1")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        FOUND is None and "DEPLOY_CHECK" not in os.environ,
        reason="kubectl, kubernetes-validate, hadolint, checkov or promtool is not there: make deploy-check",
    ),
]


@pytest.fixture(scope="module")
def tools() -> Tools:
    assert FOUND is not None
    return FOUND


def test_nothing_is_wrong(tools: Tools) -> None:
    assert problems(DEPLOY, tools) == []


@pytest.mark.slow
def test_checkov(tools: Tools) -> None:
    assert checkov(DEPLOY, tools) == []


def test_checkov_finds(tools: Tools, tmp_path: Path) -> None:
    deploy = copied(tmp_path)
    file = deploy / "kubernetes" / "base" / "deployment.yaml"
    file.write_text(file.read_text().replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"))
    assert [each for each in checkov(deploy, tools) if each.startswith("CKV_K8S_20 ")]


def test_every_overlay_is_checked() -> None:
    assert {path.name for path in (DEPLOY / "kubernetes" / "overlays").iterdir()} == set(OVERLAYS)


def test_locks_that_find_no_door_are_refused(tools: Tools, tmp_path: Path) -> None:
    """KServe writes the Deployment: the component has nothing to lock there."""
    deploy = copied(tmp_path)
    overlay = deploy / "kubernetes" / "overlays" / "kserve" / "kustomization.yaml"
    overlay.write_text(overlay.read_text() + "components: [../../components/locks]\n")
    (found, *_) = problems(deploy, tools, overlays=["kserve"])
    assert "no matches for Id Deployment" in found


# ---- slips of the pen ----

# A key, or an instruction; not in a comment.
PATTERNS = {
    ".yaml": re.compile(r"(?<![\w$])[A-Za-z][\w.~/-]*(?=:(?:\s|$))"),
    ".yml": re.compile(r"(?<![\w$])[A-Za-z][\w.~/-]*(?=:(?:\s|$))"),
    ".json": re.compile(r'(?<=")[A-Za-z]\w*(?=": )'),
    "": re.compile(r"^[A-Z]+(?= )"),
}
FILES = sorted(
    path for folder in ("kubernetes", "image", "monitoring") for path in (DEPLOY / folder).rglob("*") if path.is_file()
)


def places(path: Path) -> list[int]:
    """Where a word ends that a slip would spoil."""
    pattern = PATTERNS[path.suffix]
    ends: list[int] = []
    start = 0
    for line in path.read_text().splitlines(keepends=True):
        if not line.lstrip().startswith("#"):
            ends += [start + found.end() for found in pattern.finditer(line)]
        start += len(line)
    return ends


def chosen() -> list[tuple[Path, int]]:
    """Files and places; the same in every run."""
    found = []
    for path in FILES:
        ends = places(path)
        assert ends, f"{path} has no place to slip"
        if TYPOS != "all":
            ends = sorted(random.Random(path.name).sample(ends, min(int(TYPOS), len(ends))))  # noqa: S311
        found += [(path, end) for end in ends]
    return found


def overlays_of(path: Path) -> tuple[str, ...]:
    """Those that show what is in a file."""
    folder = path.relative_to(DEPLOY).parts
    if "overlays" in folder or "components" in folder:
        return (folder[2],)
    return ("cpu",) if "base" in folder else ()


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns(".venv")))


@pytest.mark.parametrize(
    ("path", "end"), chosen(), ids=lambda value: str(value.relative_to(DEPLOY) if isinstance(value, Path) else value)
)
def test_a_slip_of_the_pen_is_found(tools: Tools, tmp_path: Path, path: Path, end: int) -> None:
    deploy = copied(tmp_path)
    text = path.read_text()
    (deploy / path.relative_to(DEPLOY)).write_text(f"{text[:end]}{text[end - 1]}{text[end:]}")
    assert problems(deploy, tools, overlays=overlays_of(path))


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("base/deployment.yaml", "--provider=cpu", "--provider=cpuu"),
        ("base/deployment.yaml", "--max-queue-ms=1000", "--max-queue-mss=1000"),
        ("base/deployment.yaml", "--health-listen=0.0.0.0:50052", "--health-listen=0.0.0.0:50053"),
        ("base/deployment.yaml", "service: liveness", "service: livness"),
        ("base/deployment.yaml", "nextvalue-server:0.1.0", "nextvalue-sever:0.1.0"),
        ("base/deployment.yaml", "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 6"),
        ("base/deployment.yaml", "claimName: nextvalue-models", "claimName: nextvalue-model"),
        ("base/deployment.yaml", "name: run, mountPath: /run/nextvalue}", "name: run, mountPath: /run/nextvalu}"),
        ("base/service.yaml", "targetPort: grpc", "targetPort: gprc"),
        ("base/disruption.yaml", "policy/v1", "policy/v2"),
        ("base/network.yaml", "port: 50051", "port: 50015"),
        ("overlays/gpu/gpu.yaml", "--provider=cuda", "--provider=cpu"),
        ("components/locks/kustomization.yaml", "--tls-key=/run/tls/tls.key", "--tls-key=/run/tsl/tls.key"),
        ("components/locks/kustomization.yaml", "--access=/run", "--acess=/run"),
        ("components/locks/kustomization.yaml", "{name: access, secret", "{name: acces, secret"),
        ("components/locks/kustomization.yaml", "secretName", "secretNam"),
        ("components/verified/verify.yaml", "export.artifact", "export.artifcat"),
        ("components/verified/verify.yaml", "mountPath: /models", "mountPath: /model"),
        ("overlays/training/job.yaml", "--window,", "--windw,"),
        ("overlays/training/job.yaml", "/series/series.csv", "/sereis/series.csv"),
        ("overlays/training/job.yaml", "args: [export,", "args: [exprot,"),
        ("overlays/training-workers/pytorchjob.yaml", "--cell=gru", "--cell=gur"),
        ("overlays/training-workers/pytorchjob.yaml", "claimName: nextvalue-runs", "claimName: nextvalue-run"),
        ("overlays/training-workers/pytorchjob.yaml", "restartPolicy: OnFailure", "restartPolicy: OnFailur"),
        ("overlays/training-workers/pytorchjob.yaml", "name: pytorch\n", "name: pytroch\n"),
        ("components/autoscale/scaledobject.yaml", "nextvalue_phase_seconds_sum", "nextvalue_phase_second_sum"),
        ("components/autoscale/scaledobject.yaml", 'phase="run"', 'phas="run"'),
        ("components/monitoring/rules.yaml", "sum by (namespace, model)", "sum by (namespace, mdoel)"),
        ("components/monitoring/rules.yaml", "> 0.01", "> > 0.01"),
        ("components/monitoring/podmonitor.yaml", "port: metrics", "port: metrcis"),
        ("components/monitoring/dashboard.json", "nextvalue_batch_windows_sum", "nextvalue_batch_window_sum"),
    ],
)
def test_a_wrong_value_is_found(tools: Tools, tmp_path: Path, file: str, right: str, wrong: str) -> None:
    deploy = copied(tmp_path)
    path = deploy / "kubernetes" / file
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong, 1))
    assert problems(deploy, tools, overlays=overlays_of(DEPLOY / "kubernetes" / file))


def test_what_queries_may_ask_for() -> None:
    known = names()
    assert list(unknown_names('sum by (model) (rate(nextvalue_phase_seconds_bucket{phase="run"}[1m]))', known)) == []
    assert list(unknown_names("nextvalue_phase_seconds", known)) == [
        "nextvalue_phase_seconds is no series of the metrics page"
    ]
    assert list(unknown_names('nextvalue_queue_windows{version="1"}', known)) == [
        "nextvalue_queue_windows has no label version"
    ]
