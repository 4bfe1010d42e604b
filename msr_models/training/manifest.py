"""RunManifest: everything needed to repeat one training run, as JSON."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

from schemas.errors import TrainingError
from schemas.pipeline_spec import Start

FORMAT = 4
PROJECT = "msr-pipeline"
LIBRARIES = ("torch", "numpy", "pyarrow", "deltalake", "pydantic")
# What a run's result depends on; Delta versions do not belong to it (a rewritten day of equal content has a new one),
# nor do code and libraries: a run keeps its name when those change, and its manifest says which made it.
_IDENTITY = (
    "dataset",
    "lineage",
    "scenarios",
    "ds",
    "model",
    "options",
    "ratio",
    "rank_scope",
    "shared_set_id",
    "trainer",
    "train_days",
    "validation_days",
    "vocabulary_version",
    "fingerprints",
    "loading",
    "threads",
    "world_size",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Predecessor:
    """The run whose weights another one starts from. ds: its test day; chain_start: that of the run from scratch which
    the chain of predecessors begins with. new_scenario_start: where scenarios were appended, the one whose weights
    they start from (null: the mean).
    """

    ds: str
    run_id: str
    ratio: float
    checkpoint_sha256: str
    chain_start: str
    new_scenario_start: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunManifest:
    """ds: test day. train_days: days trained on, without those that the predecessor trained on. fingerprints: content
    of `window` (training and validation rows), `masks` (null without a set), `test`. loading: how training rows were
    read, which decides their order. trainer: TrainerConfig as a dict.
    metrics: what the run measured, to compare a repetition with; calibration_sha256: likewise, of its calibration.json.
    scenarios_without_rows: had no training rows, so that their own weights are those that the run started from.
    predecessor: null where the run started from scratch. embedding_dims: of the fields that have one of their own.
    """

    format: int = FORMAT
    run_id: str = ""
    dataset: str
    lineage: str
    scenarios: list[str]
    ds: str
    model: str
    options: Mapping[str, Any]
    arm: str
    ratio: float
    rank_scope: str
    shared_set_id: str | None
    trainer: Mapping[str, Any]
    train_days: list[str]
    validation_days: list[str]
    vocabulary_version: str
    table_versions: Mapping[str, int]
    test_table_versions: Mapping[str, int]
    fingerprints: Mapping[str, str | None]
    loading: Literal["resident", "streamed"] = "resident"
    threads: int
    world_size: int
    device: str
    code_version: str
    package_versions: Mapping[str, str]
    metrics: Mapping[str, float | None]
    calibration_sha256: str = ""
    scenarios_without_rows: list[str] = field(default_factory=list)
    start: Start = "scratch"
    predecessor: Predecessor | None = None
    embedding_dims: Mapping[str, int] = field(default_factory=dict)

    def identity(self) -> str:
        """`<model>-<ds>-<12 hex digits>`: the same for the same inputs, whatever the clock or the file layout."""
        inputs = {name: getattr(self, name) for name in _IDENTITY}
        if self.embedding_dims:
            inputs |= {"embedding_dims": self.embedding_dims}
        if self.predecessor is not None:
            inputs |= {"predecessor": [self.predecessor.run_id, self.predecessor.checkpoint_sha256]}
            if self.predecessor.new_scenario_start is not None:
                inputs |= {"new_scenario_start": self.predecessor.new_scenario_start}
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        return f"{self.model}-{self.ds}-{digest[:12]}"

    def to_json(self) -> str:
        """Sorted keys, one line."""
        return json.dumps(asdict(self), sort_keys=True)

    def days(self, which: str) -> list[date]:
        """`train_days` or `validation_days` as dates."""
        return [date.fromisoformat(d) for d in getattr(self, which)]


def read_manifest(path: Path) -> RunManifest:
    """Raises TrainingError where the file is missing, not JSON or lacks something."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise TrainingError(f"manifest {path} cannot be read ({error}); give a run's manifest.json") from error
    return parse_manifest(text, f"manifest {path}")


def parse_manifest(text: str, where: str) -> RunManifest:
    """Inverse of `RunManifest.to_json`. Raises TrainingError, which begins with `where`, for anything else."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise TrainingError(f"{where} cannot be read ({error}); give a run's manifest.json") from error
    known = {f.name for f in fields(RunManifest)}
    if isinstance(raw, dict):
        raw = {"embedding_dims": {}, **raw}  # runs made before fields could have one
    if not isinstance(raw, dict) or set(raw) != known or raw["format"] != FORMAT:
        wrong = sorted(set(raw) ^ known) if isinstance(raw, dict) else type(raw).__name__
        raise TrainingError(
            f"{where} is not of format {FORMAT} (keys that differ: {wrong}); give a run's manifest.json, or train again"
        )
    before = raw.pop("predecessor")
    try:
        return RunManifest(**raw, predecessor=None if before is None else Predecessor(**before))
    except TypeError as error:
        raise TrainingError(f"{where} names no run in `predecessor`: {before!r}; train again") from error


@cache
def code_version() -> str:
    """Git commit of this checkout, with + where tracked files were changed; elsewhere `project_version()`."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, check=True, capture_output=True, text=True).stdout.strip()

    try:
        # A checkout that merely lies inside another repository (an installed copy) is not that repository's commit.
        if not git("ls-files", Path(__file__).name):
            return project_version()
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return project_version()


def project_version() -> str:
    """Version in the source tree's pyproject.toml (images run it without installing it), else the installed one's."""
    try:
        text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["project"]["version"])
    except (OSError, KeyError):
        return importlib.metadata.version(PROJECT)


def package_versions() -> dict[str, str]:
    """Versions of this project and of what the numbers depend on."""
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), PROJECT: project_version()} | libraries
