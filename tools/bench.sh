#!/usr/bin/env bash
# Runs benchmarks against the installed package; complete results go to bench/results/.
# usage: bench.sh NAME...    files of bench/: exchange, cast, onepass
set -euo pipefail
cd "$(dirname "$0")/.."
tools/cmake_build.sh bench halfway_floor
export HALFWAY_FLOOR=${HALFWAY_FLOOR:-$(pwd)/build/bench/floor/halfway_floor.so}
for name in "$@"; do
  .venv/bin/python "bench/$name.py"
done
