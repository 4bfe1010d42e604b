# Sourced by the scripts that leave processes running: start one, look at it, end just that one.
# A pid file holds the pid and the process's start time, so a number that the system gave to someone else is never signalled.

run_dir="${MSR_AIRFLOW_HOME:-$PWD/.airflow}/run"

start_time_of() { [ -r "/proc/$1/stat" ] && sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20; }

pid_of() { # pid_of NAME: prints the pid when the process that we started still runs
  local pid started
  read -r pid started 2>/dev/null <"$run_dir/$1.pid" || return 1
  [ "$(start_time_of "$pid")" = "$started" ] && echo "$pid"
}

start_process() { # start_process NAME LOGFILE COMMAND...
  local name=$1 logfile=$2
  shift 2
  mkdir -p "$run_dir" "$(dirname "$logfile")"
  setsid "$@" >>"$logfile" 2>&1 </dev/null &
  local pid=$!
  echo "$pid $(start_time_of "$pid")" >"$run_dir/$name.pid"
}

stop_process() { # stop_process NAME [SECONDS]: a polite end first, then the whole process group
  local pid seconds=${2:-20}
  if pid=$(pid_of "$1"); then
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq $((seconds * 5))); do
      pid_of "$1" >/dev/null || break
      sleep 0.2
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    echo "stopped $1"
  fi
  rm -f "$run_dir/$1.pid"
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

wait_for_port() { # wait_for_port NAME PORT SECONDS LOGFILE
  for _ in $(seq $(($3 * 5))); do
    port_open "$2" && return
    pid_of "$1" >/dev/null || break
    sleep 0.2
  done
  echo "$1 did not open port $2; the end of $4:" >&2
  tail -n 15 "$4" >&2
  return 1
}
