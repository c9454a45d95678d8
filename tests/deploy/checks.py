"""What is wrong with a folder like deploy/, said by the tools it is for and by the server's own code.

problems(Path("deploy"), Tools.found()) → ["overlays/cpu: …", …], empty if all is well
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml
from prometheus_client import CollectorRegistry

from server.app import LIVENESS, READINESS
from server.config import Config, parse, split_address
from server.errors import StartupError
from server.metrics import Metrics
from tests.deploy.programs import program, workers
from tests.deploy.schemas import MODELS, Dashboard, PatchStep, PrometheusRule, ScaledObject

Object = dict[str, Any]

# The oldest and the newest Kubernetes that is promised.
KUBERNETES = ("1.30", "1.37")
OVERLAYS = ("cpu", "gpu", "autoscale", "monitoring", "kserve", "locks", "verified", "training", "training-workers")
# Labels and annotations that mean something to somebody. Another is a slip of the pen.
KNOWN_KEYS = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
    "grafana_dashboard",
    "kubectl.kubernetes.io/default-container",
    "kubernetes.io/hostname",
    "kubernetes.io/metadata.name",
    "nextvalue.dev/accelerator",
    "nvidia.com/gpu",
    "pod-security.kubernetes.io/enforce",
    "pod-security.kubernetes.io/warn",
    "serving.kserve.io/deploymentMode",
}
# Of which version each of Kubernetes' own kinds is; the validator passes over one that it has no schema of.
KINDS = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolumeClaim": "v1",
    "PodDisruptionBudget": "policy/v1",
    "Service": "v1",
    "ServiceAccount": "v1",
}
SERVER_IMAGES = ("nextvalue-server", "nextvalue-server-gpu")
IMAGES = (*SERVER_IMAGES, "nextvalue-reference", "nextvalue-train")
RESOURCES = {"cpu", "memory", "storage", "nvidia.com/gpu"}
# Claims that another overlay makes: fits publish where servers look.
CLAIMS_ELSEWHERE = {"training": {"nextvalue-models"}}
# Labels that a scrape adds to what the page has.
TARGET_LABELS = {"namespace", "pod", "nextvalue_dev_accelerator"}
# What Grafana puts in place of a variable, for a parser that knows none.
VARIABLES = {"$__rate_interval": "5m", "$namespace": ".*", "$model": ".*"}


@dataclass(frozen=True)
class Tools:
    """Where the tools are."""

    kubectl: str
    validate: str
    hadolint: str
    checkov: str
    promtool: str

    @classmethod
    def found(cls, folder: Path) -> Self | None:
        """Those of an environment, and promtool from anywhere; None if one is missing."""
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        names = ("kubectl", "kubernetes-validate", "hadolint", "checkov", "promtool")
        places = [shutil.which(name, path=path) for name in names]
        return cls(*filter(None, places)) if all(places) else None


def problems(deploy: Path, tools: Tools, *, overlays: Iterable[str] = OVERLAYS) -> list[str]:
    """Everything but what checkov says, which takes its time: `checkov`."""
    return list(_all(deploy, tools, overlays))


def _all(deploy: Path, tools: Tools, overlays: Iterable[str]) -> Iterator[str]:
    slips = list(patches(deploy))
    yield from slips
    # What a patch with a slip has made has not the shape to be looked at.
    for overlay in () if slips else overlays:
        objects, wrong = rendered(deploy, overlay, tools)
        yield from (f"overlays/{overlay}: {each}" for each in (*wrong, *_overlay(objects, tools)))
    yield from _said([tools.hadolint, str(deploy / "image" / "Containerfile")])
    yield from _said([tools.promtool, "check", "config", str(deploy / "monitoring" / "prometheus.yml")])
    yield from rule_tests(deploy, tools)


def _overlay(objects: list[Object], tools: Tools) -> Iterator[str]:
    if not objects:
        return
    wrong = list(kinds(objects, tools))
    yield from wrong
    if wrong:  # what has not the shape that it must have cannot be looked at further
        return
    yield from keys(objects)
    yield from links(objects)
    for pod in pods(objects):
        yield from containers(pod)
    for each in objects:
        if each["kind"] == "PyTorchJob":
            yield from workers(each)
    yield from queries(objects, tools)


def _said(command: list[str], *, cwd: Path | None = None) -> list[str]:
    """What a tool that fails has to say."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    return [] if done.returncode == 0 else [f"{Path(command[0]).name}: {(done.stdout + done.stderr).strip()}"]


def rendered(deploy: Path, overlay: str, tools: Tools) -> tuple[list[Object], list[str]]:
    """The objects of an overlay, and what kustomize says where there are none."""
    folder = deploy / "kubernetes" / "overlays" / overlay
    done = subprocess.run([tools.kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:  # a warning, too: of a field that will go
        return [], [f"kustomize: {done.stderr.strip()}"]
    return list(yaml.safe_load_all(done.stdout)), []


def patches(deploy: Path) -> Iterator[str]:
    """Steps of a JSON patch with a field that there is none of, which kustomize passes over."""
    for path in sorted((deploy / "kubernetes").rglob("*.yaml")):
        try:
            for document in yaml.safe_load_all(path.read_text()):
                inline = document.get("patches", ()) if isinstance(document, dict) else ()
                for steps in (document, *(yaml.safe_load(each.get("patch", "")) for each in inline)):
                    if not isinstance(steps, list):
                        continue
                    msgspec.convert(steps, list[PatchStep])
        except (yaml.YAMLError, msgspec.ValidationError) as error:
            yield f"{path.name}: {error}"


def kinds(objects: list[Object], tools: Tools) -> Iterator[str]:
    """Kubernetes' own kinds against its schemas, others' against our models of theirs."""
    own: list[Object] = []
    for each in objects:
        kind = each.get("kind", "")
        if kind in KINDS:
            own.append(each)
            if each.get("apiVersion") != KINDS[kind]:
                yield f"{kind}: apiVersion is {each.get('apiVersion')!r}, not {KINDS[kind]!r}"
        elif kind in MODELS:
            try:
                msgspec.convert(each, MODELS[kind])
            except msgspec.ValidationError as error:
                yield f"{kind}: {error}"
            else:
                own += [{"apiVersion": "v1", "kind": "Pod", **pod} for pod in pods([each])]
        else:
            yield f"kind {kind!r} is not one that is expected here"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "objects.yaml"
        file.write_text(yaml.safe_dump_all(own))
        for version in KUBERNETES:
            yield from _said([tools.validate, "--strict", "--kubernetes-version", version, "--quiet", str(file)])


def pods(objects: list[Object]) -> list[Object]:
    """Every pod template."""
    found: list[Object] = []
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] in {"Deployment", "Job"}:
            found.append(spec["template"])
        elif each["kind"] == "PyTorchJob":
            found += [role["template"] for role in spec["pytorchReplicaSpecs"].values()]
        elif each["kind"] == "ServingRuntime":
            found.append({"spec": {key: spec[key] for key in ("containers", "volumes") if key in spec}})
    return [{**pod, "metadata": {"name": "pod", **pod.get("metadata", {})}} for pod in found]


def keys(objects: list[Object]) -> Iterator[str]:
    """Labels, annotations and selectors of names that nobody knows."""
    for path, mapping in _mappings(objects):
        if path.endswith((".labels", ".annotations", ".matchLabels")) and "PrometheusRule" not in path:
            yield from (f"{path}.{key}: nobody knows it" for key in mapping if key not in KNOWN_KEYS)
        if path.endswith((".requests", ".limits")):
            yield from (f"{path}.{key}: nobody has such a resource" for key in mapping if key not in RESOURCES)
        if "topologyKey" in mapping and mapping["topologyKey"] not in KNOWN_KEYS:
            yield f"{path}.topologyKey: {mapping['topologyKey']!r}: nobody knows it"


def _mappings(objects: Iterable[Object]) -> Iterator[tuple[str, Object]]:
    def walk(path: str, value: object) -> Iterator[tuple[str, Object]]:
        if isinstance(value, dict):
            yield path, value
            for key, below in value.items():
                yield from walk(f"{path}.{key}", below)
        elif isinstance(value, list):
            for below in value:
                yield from walk(path, below)

    for each in objects:
        yield from walk(str(each.get("kind")), each)


def links(objects: list[Object]) -> Iterator[str]:
    """Names that stand for another object, a volume or a port that is not there."""
    yield from _selectors(objects)
    yield from _port_names(objects)
    named = {(each["kind"], each["metadata"]["name"]) for each in objects}
    for each in objects:
        if each["kind"] == "ScaledObject" and ("Deployment", each["spec"]["scaleTargetRef"]["name"]) not in named:
            yield "ScaledObject scales what is not there"
    for pod in pods(objects):
        account = pod["spec"].get("serviceAccountName")
        if account and ("ServiceAccount", account) not in named:
            yield f"service account {account!r} is not there"
        for volume in pod["spec"].get("volumes", ()):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            component = pod["metadata"].get("labels", {}).get("app.kubernetes.io/component", "")
            if claim in CLAIMS_ELSEWHERE.get(component, ()):
                continue
            if claim and ("PersistentVolumeClaim", claim) not in named:
                yield f"claim {claim!r} is not there"


def _selectors(objects: list[Object]) -> Iterator[str]:
    labels = [pod["metadata"].get("labels", {}) for pod in pods(objects)]
    found: list[tuple[str, Mapping[str, str]]] = []
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            found.append((f"Service {each['metadata']['name']}", spec["selector"]))
        elif each["kind"] in {"PodDisruptionBudget", "PodMonitor"}:
            found.append((each["kind"], spec["selector"]["matchLabels"]))
        elif each["kind"] == "NetworkPolicy":
            found.append((each["kind"], spec["podSelector"].get("matchLabels", {})))
    for pod in pods(objects):
        constraints = pod["spec"].get("topologySpreadConstraints", ())
        found += [("topologySpreadConstraints", each["labelSelector"]["matchLabels"]) for each in constraints]
    for who, selector in found:
        if not selector or not any(selector.items() <= each.items() for each in labels):
            yield f"{who} selects no pod of ours, or any"


def _port_names(objects: list[Object]) -> Iterator[str]:
    ports = {port["name"]: port["containerPort"] for pod in pods(objects) for port in _ports(pod)}
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            for port in spec["ports"]:
                if ports.get(port["targetPort"]) != port["port"]:
                    yield f"Service port {port['name']}: {port['targetPort']} is not the port {port['port']} of a pod"
        elif each["kind"] == "PodMonitor":
            for endpoint in spec["podMetricsEndpoints"]:
                if endpoint["port"] not in ports:
                    yield f"PodMonitor scrapes port {endpoint['port']!r}, which no pod has"
        elif each["kind"] == "NetworkPolicy":
            for port in (port for rule in spec.get("ingress", ()) for port in rule.get("ports", ())):
                if port["port"] not in ports.values():
                    yield f"NetworkPolicy lets in to port {port['port']}, which no pod has"


def _ports(pod: Object) -> list[Object]:
    return [port for container in pod["spec"].get("containers", ()) for port in container.get("ports", ())]


def containers(pod: Object) -> Iterator[str]:
    """Images that nobody builds, options that the server does not take, ports and probes that do not fit them."""
    spec = pod["spec"]
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    reference = {}
    for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
        name, image = container["name"], container.get("image", "")
        if image.rpartition(":")[0] not in IMAGES:
            yield f"{name}: image {image!r} is not one of {', '.join(IMAGES)}"
        mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", ())}
        yield from (f"{name}: volume {each!r} is not there" for each in sorted(mounts.keys() - volumes))
        if image.startswith("nextvalue-reference"):
            options = container.get("args", [])
            reference = dict(zip(options[::2], options[1::2], strict=False))
            if sorted(reference) != ["--listen", "--models"]:
                yield f"{name}: options are {sorted(reference)}"
            elif not {str(Path(reference["--listen"][5:]).parent), reference["--models"]} <= set(mounts.values()):
                yield f"{name}: not all that {options} names is mounted"
        if image.rpartition(":")[0] == "nextvalue-train" or "command" in container:
            yield from program(container, mounts)
        elif image.rpartition(":")[0] in SERVER_IMAGES:
            yield from _server(container, mounts, spec, reference)


def _server(container: Object, mounts: Mapping[str, str], spec: Object, reference: Mapping[str, str]) -> Iterator[str]:
    if not all(isinstance(each, str) for each in container.get("args", [])):
        yield f"options are {container['args']}: must be texts"
        return
    try:
        config = parse(container.get("args", []), {each["name"]: each["value"] for each in container.get("env", ())})
    except StartupError as error:
        yield f"the server would not start: {error}"
        return
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
    grpc_port, metrics_port = split_address(config.grpc)[1], split_address(config.metrics)[1]
    health_port = split_address(config.health_listen)[1] if config.health_listen else grpc_port
    for name, expected in (("grpc", grpc_port), ("h2c", grpc_port), ("health", health_port), ("metrics", metrics_port)):
        if ports.pop(name, expected) != expected:
            yield f"port {name} is not {expected}, where the server listens"
    yield from (f"port {name!r} is nothing of the server's" for name in ports)
    for probe, services in (
        ("startupProbe", READINESS),
        ("readinessProbe", READINESS),
        ("livenessProbe", (LIVENESS,)),
    ):
        asked = container.get(probe, {}).get("grpc", {})
        if asked.get("port") != health_port or asked.get("service", "") not in services:
            yield f"{probe} asks {asked}: must be port {health_port}, service {services[-1]}"
    yield from _times(container, spec, config)
    if reference and (config.reference, str(config.models)) != (reference["--listen"], reference["--models"]):
        yield f"the server's reference is {config.reference!r}, the sidecar listens at {reference['--listen']!r}"
    if not reference and config.reference.startswith("unix:"):
        yield f"the server's reference is {config.reference!r}, and there is no sidecar"
    under = [str(config.models)] + ([str(Path(config.reference[5:]).parent)] if reference else [])
    files = (config.tls_certificate, config.tls_key, config.tls_client_ca, config.access)
    under += [str(Path(file).parent) for file in files if file]
    for folder in under:
        if folder not in mounts.values() and folder != "/mnt/models":  # KServe mounts that itself
            yield f"nothing is mounted at {folder}"
    if "/tmp" not in mounts.values():  # noqa: S108 (where the images write)
        yield "nothing is mounted at /tmp, and the root is read-only"
    gpus = container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu")
    if (config.provider == "cuda") != (gpus is not None):
        yield f"provider is {config.provider}, GPUs are {gpus}"


def _times(container: Object, spec: Object, config: Config) -> Iterator[str]:
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    grace = spec.get("terminationGracePeriodSeconds", 30)
    # Workers that have not drained are killed 5 s after.
    if "serviceAccountName" in spec and grace < sleep + config.drain_seconds + 5:
        yield f"terminationGracePeriodSeconds is {grace}: less than preStop {sleep} and drain {config.drain_seconds:g}"


# ---- what Prometheus is asked ----


def names() -> dict[str, set[str]]:
    """Every series of the metrics page, with its labels."""
    found: dict[str, set[str]] = {}
    registry = CollectorRegistry()
    for family in vars(Metrics(registry)).values():
        kind, base = getattr(family, "_type", ""), getattr(family, "_name", "")
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}.get(kind, [])
        for suffix in suffixes:
            extra = {"le"} if suffix == "_bucket" else set()
            found[base + suffix] = set(family._labelnames) | extra
    return found


def asked(objects: list[Object]) -> Iterator[tuple[str, str]]:
    """Every query, and where it stands."""
    for each in objects:
        try:
            if each["kind"] == "ScaledObject":
                scaled = msgspec.convert(each, ScaledObject)
                yield from ((trigger.name, trigger.metadata.query) for trigger in scaled.spec.triggers)
            elif each["kind"] == "PrometheusRule":
                rules = msgspec.convert(each, PrometheusRule)
                yield from ((rule.alert, rule.expr) for group in rules.spec.groups for rule in group.rules)
            elif each["kind"] == "ConfigMap":
                yield from dashboard_queries(each["data"]["nextvalue.json"])
        except msgspec.ValidationError:
            pass  # said by kinds, or below


def dashboard_queries(text: str) -> Iterator[tuple[str, str]]:
    """The queries of a dashboard, variables filled in."""
    for panel in msgspec.json.decode(text, type=Dashboard).panels:
        for target in panel.targets:
            query = target.expr
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield panel.title, query


def queries(objects: list[Object], tools: Tools) -> Iterator[str]:
    """Queries that do not parse, or ask for series or labels that the page does not have."""
    for each in objects:
        if each["kind"] == "ConfigMap":
            try:
                msgspec.json.decode(each["data"]["nextvalue.json"], type=Dashboard)
            except (KeyError, msgspec.MsgspecError) as error:
                yield f"dashboard: {error}"
    known = names()
    found = list(asked(objects))
    for where, query in found:
        yield from (f"{where}: {each}" for each in unknown_names(query, known))
    if found:
        with tempfile.TemporaryDirectory() as folder:
            rules = [{"record": f"query_{k}", "expr": query} for k, (_, query) in enumerate(found)]
            file = Path(folder) / "queries.yml"
            file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
            yield from _said([tools.promtool, "check", "rules", str(file)])


def unknown_names(query: str, known: Mapping[str, set[str]]) -> Iterator[str]:
    """Series and labels of a query that no page has."""
    labels = set().union(*known.values()) | TARGET_LABELS
    for series, selector in re.findall(r"(\bnext\w+)(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', query)):
        if series in TARGET_LABELS:
            continue
        if series not in known:
            yield f"{series} is no series of the metrics page"
        for label in re.findall(r"(\w+)\s*[=!]", selector):
            if label not in known.get(series, labels) | TARGET_LABELS:
                yield f"{series} has no label {label}"
    for grouped in re.findall(r"\bby\s*\(([^)]*)\)", query):
        yield from (f"no series has a label {each}" for each in re.findall(r"\w+", grouped) if each not in labels)


def rule_tests(deploy: Path, tools: Tools) -> Iterator[str]:
    """The alerts' unit tests; every alert has one that fires and one that does not."""
    folder = deploy / "kubernetes" / "components" / "monitoring"
    try:
        rules = yaml.safe_load((folder / "rules.yaml").read_text())["spec"]
        tests = yaml.safe_load((folder / "rules_test.yaml").read_text())
    except (yaml.YAMLError, KeyError) as error:
        yield f"rules: {error}"
        return
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "rules.yml").write_text(yaml.safe_dump(rules))
        (Path(work) / "rules_test.yaml").write_text(yaml.safe_dump(tests))
        yield from _said([tools.promtool, "test", "rules", "rules_test.yaml"], cwd=Path(work))
    seen = {
        (case.get("alertname"), bool(case.get("exp_alerts")))
        for test in tests.get("tests", ())
        for case in test.get("alert_rule_test", ())
    }
    alerts = {rule.get("alert") for group in rules.get("groups", ()) for rule in group.get("rules", ())}
    for alert in sorted(alerts, key=str):
        for fires in (True, False):
            if (alert, fires) not in seen:
                yield f"{alert} has no test of {'firing' if fires else 'not firing'}"
    yield from (f"{alert} is tested, and there is no such alert" for alert in sorted({a for a, _ in seen} - alerts))


def checkov(deploy: Path, tools: Tools) -> list[str]:
    """What checkov finds in the rendered overlays, but for what deploy/checkov.yaml explains."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for overlay in OVERLAYS:
            objects, wrong = rendered(deploy, overlay, tools)
            found += wrong
            (Path(folder) / f"{overlay}.yaml").write_text(yaml.safe_dump_all(objects))
        command = [tools.checkov, "--config-file", str(deploy / "checkov.yaml"), "--directory", folder]
        done = subprocess.run([*command, "--output", "json"], capture_output=True, text=True, check=False)
    try:
        said = json.loads(done.stdout)
        if not said["summary"]["passed"]:
            found.append("checkov has checked nothing")
        found += [f"{each['check_id']} {each['resource']}: {each['check_name']}" for each in _failed(said)]
    except (ValueError, KeyError, TypeError):
        found.append(f"checkov: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found


def _failed(said: Object) -> list[Object]:
    failed: list[Object] = said["results"]["failed_checks"]
    return failed
