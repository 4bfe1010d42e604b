#!/usr/bin/env bash
# Installs what the pipeline needs into this folder; the images run it too.
#   scripts/setup.sh [all|airflow|spark|train]
#   all      everything, for make demo and make test (default)
#   airflow  Airflow and the steps that it runs, without a JVM: Spark is a Connect server elsewhere
#   spark    a Spark Connect server: Java, pyspark, Delta's jars
#   train    the torch steps only
# Python packages go to .venv (MSR_VENV), Delta's jars to .jars; each is skipped if it is up to date.
# MSR_SPARK_JARS=FOLDER uses existing jars instead. pip, uv and Maven use your own index and mirror settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
part="${1:-all}"
venv="${MSR_VENV:-.venv}"

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 2; }

apt_install() { # apt_install PACKAGE...: succeeds if the packages are installed afterwards
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  say "installing $* with apt"
  apt-get update -qq >/dev/null &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_python() {
  # All candidates on PATH: the first may be a version manager's shim that fails
  local candidate
  for candidate in ${MSR_PYTHON:-} $(type -ap python3.11 python3 python); do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

install_python_packages() {
  local stamp python base extras=()
  stamp="$venv/.installed-$part-$(cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)"
  [ -e "$stamp" ] && return
  if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python) || die "Python 3.11 was not found: install it" \
      "(apt-get install python3.11 python3.11-venv, or pyenv install 3.11), or set MSR_PYTHON to its path"
    say "creating $venv with $("$python" --version)"
    if ! "$python" -m venv "$venv" 2>/dev/null; then
      rm -rf "$venv"
      apt_install python3.11-venv || die "Python's venv module is incomplete: install python3.11-venv"
      "$python" -m venv "$venv"
    fi
  fi
  # uv itself is pinned, with hashes, in the same lock
  base=$(mktemp)
  sed -n '/^uv==/,/[^\\]$/p' requirements.lock >"$base"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$base"
  rm -f "$base"
  say "installing the locked packages ($part)"
  if [ "$part" = all ]; then
    "$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes --compile-bytecode requirements.lock
  else
    extras=(--extra "$part")
    [ "$part" = airflow ] && extras+=(--extra spark --extra train)
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --verify-hashes --compile-bytecode \
      -r pyproject.toml "${extras[@]}" --constraint requirements.lock
  fi
  rm -f "$venv"/.installed-*
  touch "$stamp"
}

java_version() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1; }

require_java() {
  local found
  found=$(java_version || true)
  [ "${found:-0}" -ge 17 ] && return
  apt_install openjdk-17-jre-headless || apt_install openjdk-21-jre-headless ||
    die "Spark needs Java 17 or newer (found: ${found:-none}):" \
      "install it (apt-get install openjdk-17-jre-headless) and put it on PATH"
}

check_jars() { # check_jars FOLDER: fails with one line if Spark cannot use it
  [ -d "$1" ] ||
    die "MSR_SPARK_JARS=$1: no such folder; name the folder that holds the jars, or unset it to let Maven fetch them"
  compgen -G "$1/delta-spark_*.jar" >/dev/null ||
    die "MSR_SPARK_JARS=$1: no delta-spark_*.jar in it; copy the jars named in scripts/pom.xml there, or unset it"
}

install_jars() {
  local stamp
  [ -n "${MSR_SPARK_JARS:-}" ] && return
  stamp=".jars/.from-$(sha256sum <scripts/pom.xml | cut -c1-16)"
  [ -e "$stamp" ] && return
  command -v mvn >/dev/null || apt_install maven ||
    die "Maven, which fetches Delta's jars, was not found: install it (apt-get install maven)," \
      "or set MSR_SPARK_JARS to a folder of jars"
  say "fetching Delta's jars"
  rm -rf .jars .jars.new
  TERM=dumb mvn -q -B -ntp -Dstyle.color=never -Djansi.mode=strip -f scripts/pom.xml dependency:copy-dependencies \
    -Dmsr.jars="$PWD/.jars.new" ||
    die "Maven could not fetch the jars of scripts/pom.xml (see above): check its mirror settings," \
      "or set MSR_SPARK_JARS to a folder of jars"
  mv .jars.new .jars
  touch "$stamp"
}

case "$part" in
  all | spark)
    # Fail at once, not after a minute of installing
    [ -z "${MSR_SPARK_JARS:-}" ] || check_jars "$MSR_SPARK_JARS"
    install_python_packages
    require_java
    install_jars
    ;;
  airflow | train) install_python_packages ;;
  *) die "unknown part '$part': choose all, airflow, spark or train" ;;
esac
say "ready ($part)"
