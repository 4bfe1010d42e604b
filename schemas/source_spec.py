"""The `source` block of a data set's YAML: location, format and adapter of the raw log."""

from __future__ import annotations

import codecs
from typing import Literal

from pydantic import Field, field_validator, model_validator

from schemas.spec import LogText, Spec


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
    purchases: bool = Field(default=False, description="add the column purchase: some clicks are followed by one")


# Adapters of data sets that consist of several files in one folder, and those files.
FOLDERS = {
    "movielens": "ml-1m.inter, ml-1m.user and ml-1m.item",
    "ali_ccp": "sample_skeleton_train.csv, common_features_train.csv and their _test.csv",
    "alimama": "raw_sample.csv, ad_feature.csv and user_profile.csv",
    "ali_express": "XX_item_train.csv, XX_user_train.csv and their _test.csv for each country XX",
    "kuairand": "log_standard_*.csv, user_features_*.csv and video_features_basic_*.csv",
}


# Python's names of the encodings that can be read, and Java's.
CHARSETS = {
    "ascii": "US-ASCII",
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16LE",
    "utf-16-be": "UTF-16BE",
    **{f"iso8859-{n}": f"ISO-8859-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 15)},
    **{f"cp{n}": f"windows-{n}" for n in range(1250, 1259)},
    "koi8-r": "KOI8-R",
    "gbk": "GBK",
    "gb2312": "GB2312",
    "gb18030": "GB18030",
    "big5": "Big5",
    "shift_jis": "Shift_JIS",
    "cp932": "windows-31j",
    "euc_jp": "EUC-JP",
    "euc_kr": "EUC-KR",
}
_DELIMITED = ("csv", "tsv")
# Keys that only some formats of adapter `files` have; elsewhere they would do nothing.
_FORMATS_OF = {
    "header": _DELIMITED,
    "delimiter": ("csv",),
    "quote": _DELIMITED,
    "multi_line": _DELIMITED,
    "encoding": _DELIMITED,
}


class SourceSpec(Spec):
    """The raw log and the adapter that reads it."""

    adapter: Literal["files", "movielens", "generated", "ali_ccp", "alimama", "ali_express", "kuairand"]
    path: str | None = Field(default=None, description="file, folder or glob; {ds} is the day; ${VAR} is expanded")
    format: Literal["csv", "tsv", "parquet", "jsonl"] | None = None
    header: bool = Field(default=True, description="csv, tsv: false names the columns _c0, _c1, ...")
    delimiter: str | None = Field(default=None, min_length=1, description="csv: default ','")
    quote: str | None = Field(
        default=None, max_length=1, description="csv, tsv: '' for none; default '\"' in csv, none in tsv"
    )
    multi_line: bool = Field(default=True, description="csv, tsv: whether a quoted value may hold line breaks")
    encoding: str = Field(default="utf-8", description="csv, tsv: e.g. latin-1, windows-1252, utf-16, gbk")
    null_values: tuple[LogText, ...] = Field(default=(), description="texts that mean a missing value, e.g. ['NULL']")
    generator: GeneratorSpec | None = None

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            known = codecs.lookup(name).name
        except LookupError:
            known = ""
        if known not in CHARSETS:
            raise ValueError(f"is no encoding that can be read; use one of {', '.join(CHARSETS)}")
        return known

    @model_validator(mode="after")
    def _complete(self) -> SourceSpec:
        if self.adapter == "files" and (self.path is None or self.format is None):
            raise ValueError("adapter 'files' needs path and format (csv, tsv, parquet or jsonl)")
        if self.adapter in FOLDERS and self.path is None:
            raise ValueError(f"adapter {self.adapter!r} needs path, the folder with {FOLDERS[self.adapter]}")
        for key, formats in _FORMATS_OF.items():
            if getattr(self, key) != type(self).model_fields[key].default and self.format not in formats:
                raise ValueError(f"{key} applies to format {' and '.join(formats)} only; remove it")
        return self

    @property
    def charset(self) -> str:
        """Java's name of the encoding."""
        return CHARSETS[self.encoding]

    @property
    def is_daily(self) -> bool:
        """Whether each day has files of its own ({ds} in the path)."""
        return self.adapter == "generated" or "{ds}" in (self.path or "")
