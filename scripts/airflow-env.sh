# Settings of the local Airflow (SQLite, this machine only). Sourced by scripts/airflow.sh; `source scripts/airflow-env.sh` in the
# project's folder makes plain `airflow ...` commands talk to it. Anything already set in the environment wins.

setting() { [ -n "${!1+set}" ] || export "$1=$2"; }

setting MSR_AIRFLOW_PORT 8080
setting MSR_SPARK_CONNECT_PORT 15002
setting MSR_DATASET generated
# Each data set has its own scheduler state: the same day of two of them would be the same partition
setting AIRFLOW_HOME "${MSR_AIRFLOW_HOME:-$PWD/.airflow}/$(basename "$MSR_DATASET" .yaml)"
# Steps run with the project's folder as working directory, from wherever the scheduler was started
setting MSR_PROJECT_DIR "$PWD"
# DAGs read data sets and names of models through `schemas`
export PYTHONPATH="$MSR_PROJECT_DIR${PYTHONPATH:+:$PYTHONPATH}"

setting AIRFLOW__CORE__DAGS_FOLDER "$PWD/dags"
setting AIRFLOW__CORE__LOAD_EXAMPLES False
setting AIRFLOW__CORE__EXECUTOR LocalExecutor
# Two steps that work, and room for tasks that only wait for another DAG
setting AIRFLOW__CORE__PARALLELISM 4
setting AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION False
setting AIRFLOW__CORE__EXECUTION_API_SERVER_URL "http://127.0.0.1:$MSR_AIRFLOW_PORT/execution/"
# A UI for one person on one machine: no log-in, and it listens on the loopback address only
setting AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS True
setting AIRFLOW__API__HOST 127.0.0.1
setting AIRFLOW__API__PORT "$MSR_AIRFLOW_PORT"
setting AIRFLOW__API__BASE_URL "http://127.0.0.1:$MSR_AIRFLOW_PORT"
setting AIRFLOW__API__WORKERS 1
# Few files that seldom change: parse them once, look again every half minute
setting AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES 1
setting AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL 600
setting AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL 60
setting AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME 0.5
setting AIRFLOW__LOGGING__LOGGING_LEVEL INFO
setting AIRFLOW__USAGE_DATA_COLLECTION__ENABLED False

# Which engine the Spark steps use: a Connect server by default; local[*] or a cluster is another address in this one connection
setting AIRFLOW_CONN_SPARK_DEFAULT "{\"conn_type\": \"spark_connect\", \"host\": \"127.0.0.1\", \"port\": $MSR_SPARK_CONNECT_PORT}"

# The parts of Airflow sign their calls to each other with this; made once, never printed
if [ -z "${AIRFLOW__API_AUTH__JWT_SECRET:-}" ]; then
  mkdir -p "$AIRFLOW_HOME"
  [ -s "$AIRFLOW_HOME/jwt_secret" ] || (umask 077 && head -c 32 /dev/urandom | base64 >"$AIRFLOW_HOME/jwt_secret")
  AIRFLOW__API_AUTH__JWT_SECRET=$(cat "$AIRFLOW_HOME/jwt_secret")
  export AIRFLOW__API_AUTH__JWT_SECRET
fi
