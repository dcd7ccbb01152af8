#!/usr/bin/env bash
# Installs what the tree needs and is not there: Debian packages, then one virtual environment, .venv.
# usage: setup.sh PYTHON [CHOSEN]    CHOSEN: the same, if the user asked for it by name (may be empty)
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
chosen=${2:-}
venv_python=.venv/bin/python

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

if [ -n "$chosen" ] && ! command -v "$chosen" >/dev/null; then
  fail "there is no interpreter $chosen"
fi
bash tools/system_packages.sh "$python"

# An interpreter that may live in .venv: 3.10 or later, with venv, pip's installer and the C headers.
check_python() {
  "$python" -V >/dev/null 2>&1 || fail "$python does not run: choose another interpreter with PYTHON=..."
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$python is $("$python" -V 2>&1), but 3.10 or later is needed: choose another interpreter with PYTHON=..."
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python has no venv/ensurepip module: choose another interpreter with PYTHON=..."
  "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
    fail "$python has no C headers (Python.h): choose another interpreter with PYTHON=..."
}

identity() { "$1" -c 'import sys; print(sys.base_prefix, *sys.version_info[:3])' 2>/dev/null || true; }

# Keep a .venv that works, unless another interpreter was asked for by name.
if [ -e .venv ]; then
  have=$(identity "$venv_python")
  if [ -z "$have" ]; then
    echo "setup: .venv does not work: making it anew"
    rm -rf .venv
  elif [ -n "$chosen" ] && [ "$have" != "$(identity "$chosen")" ]; then
    check_python
    echo "setup: .venv is of another interpreter than $chosen: making it anew"
    rm -rf .venv
  fi
fi
if [ ! -e .venv ]; then
  check_python
  echo "setup: .venv from $("$python" -V) ($(command -v "$python"))"
  "$python" -m venv .venv
fi

# The stamp lives in .venv and goes with it. pip accepts what already satisfies the list.
stamp=.venv/.halfway-requirements
requirements=$("$venv_python" tools/requirements.py)
key=$(printf '%s\n' "$requirements" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$key" ]; then
  mkdir -p build
  printf '%s\n' "$requirements" >build/requirements.txt
  echo "setup: pip install of $(printf '%s\n' "$requirements" | wc -l) requirements into .venv"
  "$venv_python" -m pip install --quiet --disable-pip-version-check -r build/requirements.txt
  printf '%s\n' "$key" >"$stamp"
fi
