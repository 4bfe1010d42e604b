# Background processes with pid files: start, find and stop them. Sourced by other scripts.
# A pid file holds the pid and the process's start time, so that a pid reused by another process is never signalled.

run_dir="${MSR_AIRFLOW_HOME:-$PWD/.airflow}/run"

start_time_of() { [ -r "/proc/$1/stat" ] && sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20; }

pid_of() { # pid_of NAME: prints the pid if the process that we started is still running
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

descendants_of() { # descendants_of PID: prints "pid start-time" of all its descendants, whatever their session
  local child
  for child in $(cat "/proc/$1/task"/*/children 2>/dev/null); do
    echo "$child $(start_time_of "$child")"
    descendants_of "$child"
  done
}

signal_same() { # signal_same SIGNAL: signals the processes on stdin ("pid start-time") that still exist; prints how many
  local pid started count=0
  while read -r pid started; do
    [ -n "$started" ] && [ "$(start_time_of "$pid")" = "$started" ] || continue
    kill "-$1" "$pid" 2>/dev/null && count=$((count + 1))
  done
  echo "$count"
}

stop_process() { # stop_process NAME [SECONDS]: SIGTERM to it and all its descendants, then SIGKILL
  local pid family seconds=${2:-15}
  if pid=$(pid_of "$1"); then
    family=$(echo "$pid $(start_time_of "$pid")" && descendants_of "$pid")
    signal_same TERM <<<"$family" >/dev/null
    for _ in $(seq $((seconds * 5))); do
      [ "$(signal_same 0 <<<"$family")" = 0 ] && break
      sleep 0.2
    done
    signal_same KILL <<<"$family" >/dev/null
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
  echo "$1 did not open port $2; last lines of $4:" >&2
  tail -n 15 "$4" >&2
  return 1
}
