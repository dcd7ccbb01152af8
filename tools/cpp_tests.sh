#!/usr/bin/env bash
# Builds a preset and runs its C++ tests. Passing tests leave one line, failing ones their output.
# usage: cpp_tests.sh PRESET [ctest option...]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift
tools/cmake_build.sh "$preset"
log=build/$preset/test.log
if ! ctest --preset "$preset" -j "${JOBS:-2}" --output-junit junit.xml "$@" >"$log" 2>&1; then
  grep -vE '^ *(Start +[0-9]+:|[0-9]+/[0-9]+ Test +#.* Passed )' "$log" >&2
  exit 1
fi
grep -E 'tests passed' "$log"
