"""The Spark session of a step: a Connect client, the session that spark-submit made, or a local engine of its own."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from schemas.errors import MsrError

try:
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j comes without stubs

    # What an engine raises: with Connect always the first, with an engine in this process also the second.
    SPARK_ERRORS: tuple[type[Exception], ...] = (PySparkException, Py4JJavaError)
except ImportError:  # a client without an engine
    SPARK_ERRORS = (PySparkException,)

LOCAL_CONF = Path(__file__).parent.parent / "scripts" / "spark-local.conf"
DEFAULT_MASTER = "local[2]"
CONNECT_PORT = 15002
CONNECT_WAIT_SECONDS = 20

DELTA_CONF = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

# Settings that the tables' content depends on: the same in every session, whoever started the engine.
CONTENT_CONF = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.legacy.javaCharsets": "true",  # windows-1252 and the like, beside UTF and ISO-8859-1
    "spark.sql.legacy.parquet.nanosAsLong": "true",  # pandas writes nanoseconds: jobs/adapters/parquet.py
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",  # a folder hour=01 is '01', as on other days
}


def get_session(app_name: str) -> SparkSession:
    """The session that this process uses, created on the first call.

    SPARK_REMOTE set: a client of that Spark Connect server. Started by spark-submit: the engine that it made. Else a
    local engine with the settings of scripts/spark-local.conf and the jars of MSR_SPARK_JARS, on MSR_SPARK_MASTER.

    Raises MsrError where the server does not answer or the jars are missing.
    """
    if remote := os.environ.get("SPARK_REMOTE"):
        _wait_for_server(remote)
        spark = SparkSession.builder.remote(remote).getOrCreate()
        _set_content_conf(spark)
        return spark
    os.environ.pop("SPARK_REMOTE", None)  # set but empty: pyspark would look for a server all the same
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # under spark-submit: the submitter decides on master, jars and settings
        spark = SparkSession.builder.appName(app_name).getOrCreate()
    else:
        spark = _local_engine(app_name)
    _set_content_conf(spark)
    return spark


def _set_content_conf(spark: SparkSession) -> None:
    for key, value in CONTENT_CONF.items():
        spark.conf.set(key, value)


def read_conf(path: Path) -> dict[str, str]:
    """Keys and values of a file in spark-defaults format (key, blanks, value; # begins a comment line)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise MsrError(f"{path}: the Spark settings cannot be read ({error}); restore the file") from error
    pairs = (line.split(maxsplit=1) for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return {pair[0]: pair[1].strip() if len(pair) > 1 else "" for pair in pairs}


def _local_engine(app_name: str) -> SparkSession:
    if (os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or "C") in ("C", "POSIX"):
        os.environ["LC_ALL"] = "C.UTF-8"  # else the JVM cannot name files outside ASCII
    builder = SparkSession.builder.appName(app_name)
    master = os.environ.get("MSR_SPARK_MASTER", DEFAULT_MASTER)
    knobs = read_conf(LOCAL_CONF) if master.startswith("local") else DELTA_CONF  # a cluster has settings of its own
    for key, value in (knobs | {"spark.jars": _jars(), "spark.master": master}).items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("FATAL")  # errors arrive as exceptions
    return spark


def _jars() -> str:
    folder = Path(os.environ.get("MSR_SPARK_JARS", ".jars"))
    jars = sorted(folder.glob("*.jar"))
    if not any(jar.name.startswith("delta-spark_") for jar in jars):
        raise MsrError(
            f"no delta-spark_*.jar in {folder.resolve()}; run scripts/setup.sh or point MSR_SPARK_JARS at its folder"
        )
    return ",".join(str(jar.resolve()) for jar in jars)


def _wait_for_server(remote: str) -> None:
    """Spark's own client retries for ten minutes before it reports that nobody listens."""
    url = urlsplit(remote)
    if url.scheme != "sc" or not url.hostname:
        raise MsrError(f"SPARK_REMOTE={remote!r} is not a Spark Connect address; give sc://host:port or unset it")
    address = (url.hostname, url.port or CONNECT_PORT)
    give_up = time.monotonic() + CONNECT_WAIT_SECONDS
    while True:
        try:
            socket.create_connection(address, timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > give_up:
                raise MsrError(
                    f"Spark Connect at {remote} does not answer ({error}); run scripts/spark_connect.sh start, or "
                    "unset SPARK_REMOTE for a local engine"
                ) from error
        time.sleep(1)
