"""One search for shared instances (SSIM). Immutable: a new search makes a new id; only `status` may move to retired."""

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, ClassVar

from pydantic import ValidationError

from schemas.pipeline_spec import SearchSpec
from schemas.table_spec import Constraint, Doc, Row, TableSpec, columns_of


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedSet(Row):
    """A row of `shared_instance_sets`."""

    table: ClassVar[str] = "shared_instance_sets"

    shared_set_id: Annotated[str, Doc("<source>-<window end>-<hash of inputs>")]
    dataset: Annotated[str, Doc("data set")]
    window_start: Annotated[str, Doc("first day searched")]
    window_end: Annotated[str, Doc("last day searched; a day D may use the set when this is < D")]
    source_backbone: Annotated[str, Doc("model the selector was trained with")]
    objective: Annotated[str, Doc("reference or joint, see msr_models/ssim")]
    kl_weight: Annotated[float, Doc("lambda of eq. 15")]
    threshold: Annotated[float, Doc("epsilon of eq. 10 at the end of the search")]
    gate_estimator: Annotated[str, Doc("gradient of S(.) in eq. 10")]
    kl_form: Annotated[str, Doc("form of eq. 14")]
    seed: Annotated[int, Doc("seed")]
    scenarios: Annotated[str, Doc("JSON list: names of the scenarios searched, by id")]
    config: Annotated[str, Doc("JSON: the whole search configuration")]
    table_versions: Annotated[str, Doc("JSON: Delta version of every table", volatile=True)]
    window_fingerprint: Annotated[str, Doc("hash of the rows searched, whatever the file layout")]
    vocabulary_version: Annotated[str, Doc("newest version in the window")]
    selector_uri: Annotated[str, Doc("saved selector below the artifacts", volatile=True)]
    selector_sha256: Annotated[str, Doc("checksum of that file")]
    share_rate: Annotated[float, Doc("share of window rows with is_shared")]
    share_rates: Annotated[str, Doc("JSON: per scenario name and label -> share rate")]
    validation_metrics: Annotated[str, Doc("JSON: of the source backbone after the search")]
    code_version: Annotated[str, Doc("git commit or package version", volatile=True)]
    created_at: Annotated[datetime, Doc("clock", volatile=True)]
    status: Annotated[str, Doc("accepted, rejected or retired")]
    status_reason: Annotated[str, Doc("why; accepted: scenarios sharing 0 % or 100 %, else empty")]

    @property
    def first_day(self) -> date:
        """First day of the window."""
        return date.fromisoformat(self.window_start)

    @property
    def last_day(self) -> date:
        """Last day of the window."""
        return date.fromisoformat(self.window_end)

    @property
    def lineage(self) -> str:
        """Lineage of the vocabularies that the selector knows."""
        return self.vocabulary_version.rpartition("-")[2]

    @property
    def scenario_names(self) -> tuple[str, ...]:
        """Names of the scenarios searched; later ones may have been appended."""
        return tuple(json.loads(self.scenarios))

    @property
    def features_version(self) -> int:
        """Version of scenario_features that was searched; -1 where the row does not name one."""
        return int(json.loads(self.table_versions).get("scenario_features", -1))

    def is_searched_with(self, search: SearchSpec) -> bool:
        """Whether it was searched with these settings, whatever they say about when a search is due."""
        try:
            own = SearchSpec.model_validate_json(self.config)
        except ValidationError:
            return False  # searched by code with other settings
        return own.model_dump(exclude={"every_days"}) == search.model_dump(exclude={"every_days"})


TABLE = TableSpec(
    name="shared_instance_sets",
    doc=__doc__,
    row=SharedSet,
    columns=columns_of(SharedSet),
    written_by="search_shared_instances",
    keys=("shared_set_id",),
    partition_by=(),
    constraints=(
        Constraint(name="status_is_known", sql="status IN ('accepted', 'rejected', 'retired')"),
        Constraint(name="share_rate_is_rate", sql="share_rate >= 0 AND share_rate <= 1"),
    ),
)
