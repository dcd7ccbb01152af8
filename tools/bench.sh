#!/usr/bin/env bash
# Runs benchmarks against the installed package; complete results go to bench/results/.
# usage: bench.sh NAME...    files of bench/: exchange, cast, onepass, cpp, steps
set -euo pipefail
cd "$(dirname "$0")/.."
tools/cmake_build.sh bench halfway_floor
export HALFWAY_FLOOR=${HALFWAY_FLOOR:-$(pwd)/build/bench/floor/halfway_floor.so}
for name in "$@"; do
  if [ "$name" = cpp ]; then
    tools/cmake_build.sh bench halfway_bench_cpp ||
      { echo "bench: cpp needs a libtorch and Google Benchmark (Debian: libbenchmark-dev)" >&2; exit 1; }
  fi
  if [ "$name" = steps ]; then
    tools/cmake_build.sh bench halfway_bench_steps ||
      { echo "bench: steps needs a compiler for x86-64-v3" >&2; exit 1; }
  fi
  .venv/bin/python "bench/$name.py"
done
