#!/usr/bin/env bash
# Configures a preset if it is not, and builds a target of it. Silent when nothing is to do.
# usage: cmake_build.sh PRESET [TARGET]    the target is halfway_tests if none is named
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
target=${2:-halfway_tests}
build=build/$preset
log=$build/build.log
mkdir -p "$build"

# One build at a time in a folder.
if command -v flock >/dev/null; then
  exec 9>"$build/.lock"
  flock 9
fi

# Configured once; CMake itself configures again when one of its files changes. The key holds what it cannot see.
python=$(pwd)/.venv/bin/python
key="$(sha256sum <CMakePresets.json) $("$python" -V) $(pwd)"
if [ "$(cat "$build/.key" 2>/dev/null || true)" != "$key" ]; then
  rm -f "$build/CMakeCache.txt"
  if ! cmake --preset "$preset" "-DPython_EXECUTABLE=$python" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
  fi
  printf '%s\n' "$key" >"$build/.key"
fi
if ! cmake --build "$build" --target "$target" -j "${JOBS:-2}" >"$log" 2>&1; then
  grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking)' "$log" >&2
  exit 1
fi
