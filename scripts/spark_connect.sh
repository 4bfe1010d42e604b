#!/usr/bin/env bash
# The local Spark Connect server that all steps share: scripts/spark_connect.sh start|stop|status|url|run
# It uses pip's pyspark, the jars in .jars (or MSR_SPARK_JARS) and the settings in scripts/spark-local.conf.
# `run` stays in the foreground (for images). Environment: MSR_SPARK_CONNECT_HOST (127.0.0.1), MSR_SPARK_CONNECT_PORT
# (15002), MSR_SPARK_MASTER (local[2]).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/processes.sh
port="${MSR_SPARK_CONNECT_PORT:-15002}"
host="${MSR_SPARK_CONNECT_HOST:-127.0.0.1}"
jars="${MSR_SPARK_JARS:-$PWD/.jars}"
log="${MSR_AIRFLOW_HOME:-$PWD/.airflow}/logs/spark-connect.log"

server_command() {
  local home python
  python="$(cd "${MSR_VENV:-.venv}" 2>/dev/null && pwd)/bin/python" ||
    { echo "pyspark is not installed: run scripts/setup.sh spark (or make setup)" >&2; exit 2; }
  compgen -G "$jars/delta-spark_*.jar" >/dev/null ||
    { echo "no delta-spark_*.jar in $jars: run make setup, or set MSR_SPARK_JARS to a folder of jars" >&2; exit 2; }
  home=$("$python" -c 'import importlib.util as u; print(u.find_spec("pyspark").submodule_search_locations[0])')
  export SPARK_HOME="$home" PYSPARK_PYTHON="$python" SPARK_NO_DAEMONIZE=1
  unset SPARK_REMOTE # clients' address of this server: spark-submit would take it for its own master
  # Without a locale, the JVM cannot name files outside ASCII
  case "${LC_ALL:-${LC_CTYPE:-${LANG:-C}}}" in C | POSIX) export LC_ALL=C.UTF-8 ;; esac
  command=("$home/bin/spark-submit" --class org.apache.spark.sql.connect.service.SparkConnectServer
    --name msr-spark-connect --master "${MSR_SPARK_MASTER:-local[2]}" --properties-file scripts/spark-local.conf
    --driver-class-path "$jars/*" --conf "spark.connect.grpc.binding.address=$host"
    --conf "spark.connect.grpc.binding.port=$port" spark-internal)
}

case "${1:-}" in
  run)
    server_command
    exec "${command[@]}"
    ;;
  start)
    if pid_of spark-connect >/dev/null; then
      echo "Spark Connect is already running: sc://127.0.0.1:$port"
      exit
    fi
    if port_open "$port"; then
      echo "port $port is in use by another program: set MSR_SPARK_CONNECT_PORT to a free one" >&2
      exit 2
    fi
    server_command
    start_process spark-connect "$log" "${command[@]}"
    wait_for_port spark-connect "$port" 120 "$log"
    echo "Spark Connect: sc://127.0.0.1:$port"
    ;;
  stop) stop_process spark-connect ;;
  status)
    if pid=$(pid_of spark-connect); then echo "spark-connect is running (pid $pid, sc://127.0.0.1:$port)"
    else echo "spark-connect is not running"; fi
    ;;
  url) echo "sc://127.0.0.1:$port" ;;
  *)
    echo "usage: scripts/spark_connect.sh start|stop|status|url|run" >&2
    exit 2
    ;;
esac
