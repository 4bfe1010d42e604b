"""One search for shared instances (SSIM). Immutable: a new search makes a new id; only `status` may move to retired."""

import pyarrow as pa

from schemas.table_spec import Column, Constraint, TableSpec

TABLE = TableSpec(
    name="shared_instance_sets",
    doc=__doc__,
    columns=(
        Column(name="shared_set_id", type=pa.string(), doc="<source>-<window end>-<hash of inputs>"),
        Column(name="dataset", type=pa.string(), doc="data set"),
        Column(name="window_start", type=pa.string(), doc="first day searched"),
        Column(name="window_end", type=pa.string(), doc="last day searched; a day D may use the set when this is < D"),
        Column(name="source_backbone", type=pa.string(), doc="model the selector was trained with"),
        Column(name="objective", type=pa.string(), doc="reference or joint, see msr_models/ssim"),
        Column(name="kl_weight", type=pa.float64(), doc="lambda of eq. 15"),
        Column(name="threshold", type=pa.float64(), doc="epsilon of eq. 10 at the end of the search"),
        Column(name="gate_estimator", type=pa.string(), doc="gradient of S(.) in eq. 10"),
        Column(name="kl_form", type=pa.string(), doc="form of eq. 14"),
        Column(name="seed", type=pa.int64(), doc="seed"),
        Column(name="config", type=pa.string(), doc="JSON: the whole search configuration"),
        Column(name="table_versions", type=pa.string(), doc="JSON: Delta version of every table", volatile=True),
        Column(name="window_fingerprint", type=pa.string(), doc="hash of the rows searched, whatever the file layout"),
        Column(name="vocabulary_version", type=pa.string(), doc="newest version in the window"),
        Column(name="selector_uri", type=pa.string(), doc="saved selector below the artifacts", volatile=True),
        Column(name="selector_sha256", type=pa.string(), doc="checksum of that file"),
        Column(name="share_rate", type=pa.float64(), doc="share of window rows with is_shared"),
        Column(name="share_rates", type=pa.string(), doc="JSON: per scenario name and label -> share rate"),
        Column(name="validation_metrics", type=pa.string(), doc="JSON: of the source backbone after the search"),
        Column(name="code_version", type=pa.string(), doc="git commit or package version", volatile=True),
        Column(name="created_at", type=pa.timestamp("us", tz="UTC"), doc="clock", volatile=True),
        Column(name="status", type=pa.string(), doc="accepted, rejected or retired"),
        Column(name="status_reason", type=pa.string(), doc="why; accepted: scenarios sharing 0 % or 100 %, else empty"),
    ),
    keys=("shared_set_id",),
    partition_by=(),
    constraints=(
        Constraint(name="status_is_known", sql="status IN ('accepted', 'rejected', 'retired')"),
        Constraint(name="share_rate_is_rate", sql="share_rate >= 0 AND share_rate <= 1"),
    ),
)
