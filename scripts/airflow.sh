#!/usr/bin/env bash
# The local Airflow: scripts/airflow.sh up|down|run|status|is-up|cli ...
#   up      start scheduler, DAG processor, UI/API and, if the Spark connection names a local Connect server, it too
#   down    stop what `up` started
#   run     up, then stay in the foreground until the scheduler exits (for images)
#   status  list the processes; is-up: exit code 0 if the scheduler is running
#   cli     run any airflow command with the local settings, such as `cli backfill create --dag-id daily_features ...`
# Environment: MSR_DATASET, MSR_MODELS, MSR_AIRFLOW_PORT (8080), MSR_SPARK_CONNECT_PORT (15002), MSR_GPU_SLOTS.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/processes.sh
bin="$(cd "${MSR_VENV:-.venv}" 2>/dev/null && pwd)/bin" || bin=""
parts=(api-server dag-processor scheduler)

airflow() { "$bin/airflow" "$@"; }

gpu_slots() { # MSR_GPU_SLOTS; default: the number of GPUs; without a GPU one slot per core, at most two
  local gpus
  gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l)
  if [ -n "${MSR_GPU_SLOTS:-}" ]; then echo "$MSR_GPU_SLOTS"; elif [ "$gpus" -gt 0 ]; then echo "$gpus"
  else echo $(($(nproc) > 1 ? 2 : 1)); fi
}

create_database() { # only if there is none yet: it takes a few seconds
  [ -e "$AIRFLOW_HOME/.database-ready" ] && return
  echo "creating Airflow's database"
  airflow db migrate >"$AIRFLOW_HOME/logs/database.log" 2>&1 ||
    { tail -n 15 "$AIRFLOW_HOME/logs/database.log" >&2; exit 1; }
  airflow pools set gpu "$(gpu_slots)" "Concurrent model trainings: one per GPU; without a GPU, one per core, at most two" \
    >>"$AIRFLOW_HOME/logs/database.log" 2>&1
  touch "$AIRFLOW_HOME/.database-ready"
}

up() {
  local part log
  mkdir -p "$AIRFLOW_HOME/logs" "$run_dir"
  if pid_of scheduler >/dev/null && [ "$(cat "$run_dir/dataset" 2>/dev/null)" != "$MSR_DATASET" ]; then
    echo "Airflow is running for data set $(cat "$run_dir/dataset"), not $MSR_DATASET: run \`make down\` first" >&2
    exit 2
  fi
  if pid_of scheduler >/dev/null && [ "$(cat "$run_dir/models" 2>/dev/null)" != "${MSR_MODELS:-}" ]; then
    echo "Airflow is running with models '$(cat "$run_dir/models" 2>/dev/null)'," \
      "not '${MSR_MODELS:-}': run \`make down\` first" >&2
    exit 2
  fi
  if ! pid_of api-server >/dev/null && port_open "$MSR_AIRFLOW_PORT"; then
    echo "port $MSR_AIRFLOW_PORT is in use by another program: set MSR_AIRFLOW_PORT to a free one" >&2
    exit 2
  fi
  case "$AIRFLOW_CONN_SPARK_DEFAULT" in *spark_connect*127.0.0.1*) scripts/spark_connect.sh start ;; esac
  create_database
  echo "$MSR_DATASET" >"$run_dir/dataset"
  echo "${MSR_MODELS:-}" >"$run_dir/models"
  for part in "${parts[@]}"; do
    log="$AIRFLOW_HOME/logs/$part.log"
    pid_of "$part" >/dev/null || start_process "$part" "$log" "$bin/airflow" "$part"
  done
  wait_for_port api-server "$MSR_AIRFLOW_PORT" 120 "$AIRFLOW_HOME/logs/api-server.log"
  echo "Airflow: http://127.0.0.1:$MSR_AIRFLOW_PORT (data set $MSR_DATASET, no log-in; stop it with \`make down\`)"
}

down() {
  local part
  # The scheduler first: its running steps stop and are retried after the next start
  for part in scheduler dag-processor api-server; do stop_process "$part"; done
  scripts/spark_connect.sh stop
}

status() {
  local part pid
  for part in "${parts[@]}"; do
    if pid=$(pid_of "$part"); then echo "$part is running (pid $pid)"; else echo "$part is not running"; fi
  done
  scripts/spark_connect.sh status
}

run() {
  up
  trap 'down; exit 0' TERM INT
  while pid_of scheduler >/dev/null; do sleep 2; done
  tail -n 20 "$AIRFLOW_HOME/logs/scheduler.log" >&2
  down
  return 1
}

case "${1:-}" in
  up | run | cli)
    [ -x "$bin/airflow" ] || { echo "Airflow is not installed: run scripts/setup.sh (or make setup)" >&2; exit 2; }
    source scripts/airflow-env.sh
    case "$1" in
      up) up ;;
      run) run ;;
      cli) shift && airflow "$@" ;;
    esac
    ;;
  down) down ;;
  is-up) pid_of scheduler >/dev/null ;;
  status) status ;;
  *)
    echo "usage: scripts/airflow.sh up|down|run|status|is-up|cli ..." >&2
    exit 2
    ;;
esac
