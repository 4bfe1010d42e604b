"""The files of a path: a plain path even where it holds wildcards, a glob only where no file has that very name."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pyspark.sql import DataFrameReader, SparkSession

from lake.spark_session import SPARK_ERRORS
from schemas.errors import SourceError

_WILDCARDS = "[]{}*?\\"
_ESCAPE = re.compile(r"\\.")


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """uri: as `_metadata.file_path` names it. path: for Spark's readers. name: for people."""

    uri: str
    path: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Files to read. base: the folder below which `column=value` folders are columns."""

    files: tuple[SourceFile, ...]
    base: str

    def reader(self, spark: SparkSession) -> DataFrameReader:
        """A reader of these files."""
        return spark.read.option("basePath", self.base)

    def of(self, files: list[SourceFile]) -> Listing:
        """Some of the files."""
        return Listing(files=tuple(files), base=self.base)

    @property
    def paths(self) -> list[str]:
        return [file.path for file in self.files]


def list_files(spark: SparkSession, path: str) -> Listing | None:
    """The files at a path (file, folder or glob) that the engine sees; None where there is nothing.

    A path without wildcards, or one that exists as it is written, is a plain path. Raises SourceError where Spark would
    ignore the only file because of its name.
    """
    pattern = escaped(path)
    found = _find(spark, pattern)
    if found is None and is_glob(path):
        pattern = path
        found = _find(spark, pattern)
    if found is None:
        return None
    if not found and is_hidden(path):
        raise SourceError(f"{path}: Spark ignores files whose names begin with '_' or '.'; rename it")
    return Listing(files=tuple(found), base=_plain_folder(pattern, found))


def is_glob(path: str) -> bool:
    """Whether the path holds wildcards."""
    return any(letter in path for letter in "[{*?")


def is_hidden(path: str) -> bool:
    """Whether the path names a file that Spark's listings leave out."""
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return name.startswith(("_", ".")) and not is_glob(name)


def escaped(path: str) -> str:
    """The path as a glob that matches it alone."""
    return "".join("\\" + letter if letter in _WILDCARDS else letter for letter in path)


@contextmanager
def visible(path: str) -> Iterator[str]:
    """A path under which Spark reads the file: a link, where the file's name begins with `_` or `.`, else the path."""
    if not (is_hidden(path) and os.path.isfile(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="msr-source-") as folder:
        link = Path(folder) / ("file" + Path(path).name.lstrip("._"))
        link.symlink_to(Path(path).absolute())
        yield str(link)


def _find(spark: SparkSession, pattern: str) -> list[SourceFile] | None:
    """Files that match, by name; None where nothing does. The engine lists, as it may see another file system."""
    try:
        files = spark.read.format("binaryFile").load(pattern)
        rows = files.select("path", "_metadata.file_path", "_metadata.file_name").collect()
    except SPARK_ERRORS as error:
        if "PATH_NOT_FOUND" in str(error):
            return None
        raise
    found = [SourceFile(uri=row[1], path=escaped(row[0]), name=unquote(row[2])) for row in rows]
    return sorted(found, key=lambda file: file.uri)


def _plain_folder(pattern: str, files: list[SourceFile]) -> str:
    """The longest leading folder of the pattern without wildcards, as a plain path."""
    parts = pattern.rstrip("/").split("/")
    if len(files) == 1 and _ESCAPE.sub(lambda match: match.group()[1], parts[-1]) == files[0].name:
        parts = parts[:-1]
    wild = [n for n, part in enumerate(parts) if is_glob(_ESCAPE.sub("", part))]
    plain = "/".join(parts[: wild[0]] if wild else parts)
    return _ESCAPE.sub(lambda match: match.group()[1], plain) or "/"
