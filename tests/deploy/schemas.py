"""What others' resources may look like: models of the custom resources we write, after their published schemas.

A field that is not here is refused, so that a misspelt one is found before a cluster passes over it.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Duration = Annotated[str, Meta(pattern=r"^(\d+(ms|s|m|h|d))+$")]
Count = Annotated[int, Meta(ge=0)]
Labels = dict[str, str]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A field that is not named is refused."""


class Metadata(Strict, frozen=True):
    name: Name
    namespace: Name
    labels: Labels = {}
    annotations: Labels = {}


class PatchStep(Strict, frozen=True):
    """One step of a JSON patch (RFC 6902)."""

    op: Literal["add", "remove", "replace", "test"]
    path: Annotated[str, Meta(pattern="^/")]
    value: Any = None


# ---- KEDA: keda.sh/v1alpha1 ScaledObject ----


class ScaleTarget(Strict, frozen=True):
    name: Name
    kind: str = "Deployment"
    api_version: str = "apps/v1"


class Fallback(Strict, frozen=True):
    failure_threshold: Count
    replicas: Count


class ScalingPolicy(Strict, frozen=True):
    type: Literal["Percent", "Pods"]
    value: Count
    period_seconds: Annotated[int, Meta(ge=1, le=1800)]


class ScalingRules(Strict, frozen=True):
    stabilization_window_seconds: Annotated[int, Meta(ge=0, le=3600)] | None = None
    select_policy: Literal["Max", "Min", "Disabled"] | None = None
    policies: list[ScalingPolicy] = []


class Behavior(Strict, frozen=True):
    scale_down: ScalingRules | None = None
    scale_up: ScalingRules | None = None


class HorizontalPodAutoscalerConfig(Strict, frozen=True):
    behavior: Behavior


class Advanced(Strict, frozen=True):
    horizontal_pod_autoscaler_config: HorizontalPodAutoscalerConfig | None = None
    restore_to_original_replica_count: bool = False


class PrometheusTrigger(Strict, frozen=True):
    """KEDA takes texts alone."""

    server_address: Annotated[str, Meta(pattern=r"^https?://[^/]+$")]
    query: str
    threshold: Annotated[str, Meta(pattern=r"^\d+(\.\d+)?$")]
    activation_threshold: Annotated[str, Meta(pattern=r"^\d+(\.\d+)?$")] = "0"
    ignore_null_values: Literal["true", "false"] = "true"


class Trigger(Strict, frozen=True):
    type: Literal["prometheus"]
    name: str
    metadata: PrometheusTrigger
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"


class ScaledObjectSpec(Strict, frozen=True):
    scale_target_ref: ScaleTarget
    triggers: Annotated[list[Trigger], Meta(min_length=1)]
    min_replica_count: Annotated[int, Meta(ge=1)]
    max_replica_count: Annotated[int, Meta(ge=1)]
    polling_interval: Count = 30
    cooldown_period: Count = 300
    fallback: Fallback | None = None
    advanced: Advanced | None = None


class ScaledObject(Strict, frozen=True):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


# ---- Prometheus operator: monitoring.coreos.com/v1 PodMonitor and PrometheusRule ----


class Selector(Strict, frozen=True):
    match_labels: Annotated[Labels, Meta(min_length=1)]


class PodMetricsEndpoint(Strict, frozen=True):
    port: str
    path: Annotated[str, Meta(pattern="^/")] = "/metrics"
    interval: Duration = "30s"
    scrape_timeout: Duration | None = None
    scheme: Literal["http", "https"] = "http"


class PodMonitorSpec(Strict, frozen=True):
    selector: Selector
    pod_metrics_endpoints: Annotated[list[PodMetricsEndpoint], Meta(min_length=1)]
    pod_target_labels: list[str] = []
    job_label: str | None = None


class PodMonitor(Strict, frozen=True):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    metadata: Metadata
    spec: PodMonitorSpec


class AlertLabels(Strict, frozen=True):
    severity: Literal["critical", "warning", "info"]


class AlertAnnotations(Strict, frozen=True):
    summary: str
    description: str


class Alert(Strict, frozen=True):
    alert: Annotated[str, Meta(pattern="^Nextvalue[A-Z]")]
    expr: str
    labels: AlertLabels
    annotations: AlertAnnotations
    for_: Duration | None = msgspec.field(name="for", default=None)


class Group(Strict, frozen=True):
    name: str
    rules: Annotated[list[Alert], Meta(min_length=1)]
    interval: Duration | None = None


class PrometheusRuleSpec(Strict, frozen=True):
    groups: Annotated[list[Group], Meta(min_length=1)]


class PrometheusRule(Strict, frozen=True):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PrometheusRule"]
    metadata: Metadata
    spec: PrometheusRuleSpec


# ---- KServe: serving.kserve.io ServingRuntime (v1alpha1) and InferenceService (v1beta1) ----


class ModelFormat(Strict, frozen=True):
    name: str
    version: str | None = None


class SupportedModelFormat(Strict, frozen=True):
    name: str
    version: str | None = None
    auto_select: bool = False
    priority: Annotated[int, Meta(ge=1)] | None = None


class ServingRuntimeSpec(Strict, frozen=True):
    """Containers and volumes are Kubernetes' own: `pod_of` makes a pod of them, which is validated as one."""

    supported_model_formats: Annotated[list[SupportedModelFormat], Meta(min_length=1)]
    protocol_versions: list[Literal["v1", "v2", "grpc-v1", "grpc-v2"]]
    containers: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    volumes: list[dict[str, Any]] = []


class ServingRuntime(Strict, frozen=True):
    api_version: Literal["serving.kserve.io/v1alpha1"]
    kind: Literal["ServingRuntime"]
    metadata: Metadata
    spec: ServingRuntimeSpec


class ServedModel(Strict, frozen=True):
    model_format: ModelFormat
    storage_uri: Annotated[str, Meta(pattern=r"^[a-z0-9]+://.+")]
    runtime: Name | None = None
    protocol_version: Literal["v1", "v2", "grpc-v1", "grpc-v2"] | None = None


class ServingPredictor(Strict, frozen=True):
    model: ServedModel
    min_replicas: Count = 1
    max_replicas: Count | None = None


class InferenceServiceSpec(Strict, frozen=True):
    predictor: ServingPredictor


class InferenceService(Strict, frozen=True):
    api_version: Literal["serving.kserve.io/v1beta1"]
    kind: Literal["InferenceService"]
    metadata: Metadata
    spec: InferenceServiceSpec


# ---- Kubeflow's training operator: kubeflow.org/v1 PyTorchJob ----


class PodTemplate(Strict, frozen=True):
    """Kubernetes' own: `templates` makes a pod of it, which is validated as one."""

    metadata: dict[Literal["labels", "annotations"], Labels]
    spec: dict[str, Any]


class TrainingReplicas(Strict, frozen=True):
    replicas: Annotated[int, Meta(ge=1)]
    restart_policy: Literal["Always", "OnFailure", "Never", "ExitCode"]
    template: PodTemplate


class TrainingRoles(Strict, frozen=True, rename=None):
    Master: TrainingReplicas
    Worker: TrainingReplicas


class RunPolicy(Strict, frozen=True):
    clean_pod_policy: Literal["Running", "All", "None"]
    backoff_limit: Count
    active_deadline_seconds: Count
    ttl_seconds_after_finished: Count | None = None
    suspend: bool = False


class PyTorchJobSpec(Strict, frozen=True):
    run_policy: RunPolicy
    pytorch_replica_specs: TrainingRoles
    nproc_per_node: str | None = None


class PyTorchJob(Strict, frozen=True):
    api_version: Literal["kubeflow.org/v1"]
    kind: Literal["PyTorchJob"]
    metadata: Metadata
    spec: PyTorchJobSpec


# ---- Grafana's dashboards, as far as ours go ----


class Datasource(Strict, frozen=True):
    type: Literal["prometheus"]
    uid: Literal["${datasource}"]


class GridPos(Strict, frozen=True):
    x: Annotated[int, Meta(ge=0, le=23)]
    y: Count
    w: Annotated[int, Meta(ge=1, le=24)]
    h: Annotated[int, Meta(ge=1)]


class Target(Strict, frozen=True):
    ref_id: Annotated[str, Meta(pattern="^[A-Z]$")]
    expr: str
    legend_format: str


class Custom(Strict, frozen=True):
    stacking: dict[Literal["mode"], Literal["normal", "none", "percent"]]
    fill_opacity: Annotated[int, Meta(ge=0, le=100)]


class Defaults(Strict, frozen=True):
    unit: Literal["reqps", "ops", "none", "s"]
    min: float | None = None
    custom: Custom | None = None


class FieldConfig(Strict, frozen=True):
    defaults: Defaults
    overrides: list[Any]


class Legend(Strict, frozen=True):
    display_mode: Literal["list", "table"]
    placement: Literal["bottom", "right"]
    show_legend: bool


class Tooltip(Strict, frozen=True):
    mode: Literal["multi", "single", "none"]
    sort: Literal["asc", "desc", "none"]


class ReduceOptions(Strict, frozen=True):
    calcs: list[Literal["lastNotNull", "mean", "max"]]


class PanelOptions(Strict, frozen=True):
    legend: Legend | None = None
    tooltip: Tooltip | None = None
    reduce_options: ReduceOptions | None = None
    color_mode: Literal["value", "background", "none"] | None = None
    graph_mode: Literal["area", "none"] | None = None


class Panel(Strict, frozen=True):
    id: int
    type: Literal["timeseries", "stat"]
    title: str
    description: str
    datasource: Datasource
    grid_pos: GridPos
    field_config: FieldConfig
    options: PanelOptions
    targets: Annotated[list[Target], Meta(min_length=1)]


class VariableQuery(Strict, frozen=True):
    query: str
    ref_id: str


class Variable(Strict, frozen=True):
    name: str
    type: Literal["datasource", "query"]
    label: str
    query: Literal["prometheus"] | VariableQuery
    current: dict[Literal["text", "value"], str]
    datasource: Datasource | None = None
    definition: str = ""
    include_all: bool = False
    multi: bool = False
    all_value: str = ""
    refresh: int = 0
    sort: int = 0


class Templating(Strict, frozen=True):
    list: list[Variable]


class TimeRange(Strict, frozen=True):
    from_: str = msgspec.field(name="from")
    to: str


class Dashboard(Strict, frozen=True):
    title: str
    uid: Name
    tags: list[str]
    schema_version: int
    version: int
    editable: bool
    refresh: str
    time: TimeRange
    timezone: str
    templating: Templating
    panels: list[Panel]


MODELS: dict[str, type[Strict]] = {
    "ScaledObject": ScaledObject,
    "PodMonitor": PodMonitor,
    "PrometheusRule": PrometheusRule,
    "ServingRuntime": ServingRuntime,
    "InferenceService": InferenceService,
    "PyTorchJob": PyTorchJob,
}
