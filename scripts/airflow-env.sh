# Settings of the local Airflow (SQLite, loopback only). scripts/airflow.sh sources this file; after
# `source scripts/airflow-env.sh` in the project's root, plain `airflow ...` commands use the same Airflow.
# Variables that are already set take precedence.

setting() { [ -n "${!1+set}" ] || export "$1=$2"; }

setting MSR_AIRFLOW_PORT 8080
setting MSR_SPARK_CONNECT_PORT 15002
setting MSR_DATASET generated
# Each data set has its own scheduler state: partition keys are days, which two data sets would share
setting AIRFLOW_HOME "${MSR_AIRFLOW_HOME:-$PWD/.airflow}/$(basename "$MSR_DATASET" .yaml)"
# Working directory of the steps, wherever the scheduler was started
setting MSR_PROJECT_DIR "$PWD"
# The DAGs import `schemas`
export PYTHONPATH="$MSR_PROJECT_DIR${PYTHONPATH:+:$PYTHONPATH}"

setting AIRFLOW__CORE__DAGS_FOLDER "$PWD/dags"
setting AIRFLOW__CORE__LOAD_EXAMPLES False
setting AIRFLOW__CORE__EXECUTOR LocalExecutor
# Two working steps, plus room for tasks that only wait for another DAG
setting AIRFLOW__CORE__PARALLELISM 4
setting AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION False
setting AIRFLOW__CORE__EXECUTION_API_SERVER_URL "http://127.0.0.1:$MSR_AIRFLOW_PORT/execution/"
# A single-user UI: no log-in, so it listens on the loopback address only
setting AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS True
setting AIRFLOW__API__HOST 127.0.0.1
setting AIRFLOW__API__PORT "$MSR_AIRFLOW_PORT"
setting AIRFLOW__API__BASE_URL "http://127.0.0.1:$MSR_AIRFLOW_PORT"
setting AIRFLOW__API__WORKERS 1
# Few DAG files that seldom change: parse them every ten minutes, look for new ones every minute
setting AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES 1
setting AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL 600
setting AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL 60
setting AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME 0.5
setting AIRFLOW__LOGGING__LOGGING_LEVEL INFO
setting AIRFLOW__USAGE_DATA_COLLECTION__ENABLED False

# The engine of the Spark steps: a Connect server by default; for local[*] or a cluster, change this connection only
setting AIRFLOW_CONN_SPARK_DEFAULT "{\"conn_type\": \"spark_connect\", \"host\": \"127.0.0.1\", \"port\": $MSR_SPARK_CONNECT_PORT}"

# Airflow's components sign their calls to each other with this secret; generated once, never printed
if [ -z "${AIRFLOW__API_AUTH__JWT_SECRET:-}" ]; then
  mkdir -p "$AIRFLOW_HOME"
  [ -s "$AIRFLOW_HOME/jwt_secret" ] || (umask 077 && head -c 32 /dev/urandom | base64 >"$AIRFLOW_HOME/jwt_secret")
  AIRFLOW__API_AUTH__JWT_SECRET=$(cat "$AIRFLOW_HOME/jwt_secret")
  export AIRFLOW__API_AUTH__JWT_SECRET
fi
