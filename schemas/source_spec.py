"""The `source` block of a data set's YAML: location, format and adapter of the raw log."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.spec import Spec


class GeneratorSpec(Spec):
    """Parameters of the generated log (adapter `generated`)."""

    seed: int = 7
    rows_per_day: int = Field(default=24_000, gt=0)
    scenario_shares: tuple[float, ...] = (0.5, 0.3, 0.14, 0.06)
    num_users: int = Field(default=3_000, gt=0)
    num_items: int = Field(default=800, gt=0)
    shareable_items: float = Field(
        default=0.5, ge=0, le=1, description="share of items that appeal alike in all scenarios"
    )
    drift: float = Field(default=0.02, ge=0, description="step of the daily random walk of items' appeal")
    base_logit: float = -1.4
    broken_rows: float = Field(default=0.001, ge=0, lt=0.5, description="share of records broken on purpose")


# Adapters of data sets that consist of several files in one folder, and those files.
FOLDERS = {
    "movielens": "ml-1m.inter, ml-1m.user and ml-1m.item",
    "ali_ccp": "sample_skeleton_train.csv, common_features_train.csv and their _test.csv",
    "alimama": "raw_sample.csv, ad_feature.csv and user_profile.csv",
    "ali_express": "XX_item_train.csv, XX_user_train.csv and their _test.csv for each country XX",
    "kuairand": "log_standard_*.csv, user_features_*.csv and video_features_basic_*.csv",
}


class SourceSpec(Spec):
    """The raw log and the adapter that reads it."""

    adapter: Literal["files", "movielens", "generated", "ali_ccp", "alimama", "ali_express", "kuairand"]
    path: str | None = Field(default=None, description="file, folder or glob; {ds} is the day; ${VAR} is expanded")
    format: Literal["csv", "tsv", "parquet", "jsonl"] | None = None
    header: bool = True
    delimiter: str | None = Field(default=None, description="csv only; default ','")
    generator: GeneratorSpec | None = None

    @model_validator(mode="after")
    def _complete(self) -> SourceSpec:
        if self.adapter == "files" and (self.path is None or self.format is None):
            raise ValueError("adapter 'files' needs path and format (csv, tsv, parquet or jsonl)")
        if self.adapter in FOLDERS and self.path is None:
            raise ValueError(f"adapter {self.adapter!r} needs path, the folder with {FOLDERS[self.adapter]}")
        return self

    @property
    def is_daily(self) -> bool:
        """Whether each day has files of its own ({ds} in the path)."""
        return self.adapter == "generated" or "{ds}" in (self.path or "")
