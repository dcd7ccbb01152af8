#!/usr/bin/env bash
# The seeded schedules of the transfer engine, many more than the tests run: HALFWAY_SCHEDULES of them (100000), from
# HALFWAY_SEED (1) on, as built for development and a tenth of them under each sanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."
all=${HALFWAY_SCHEDULES:-100000}
for preset in dev asan tsan; do
  tools/cmake_build.sh "$preset" halfway_test_cuda_schedules
  runs=$all
  [ "$preset" = dev ] || runs=$((all / 10))
  HALFWAY_SCHEDULES=$runs TSAN_OPTIONS="halt_on_error=1:die_after_fork=0:atexit_sleep_ms=0" \
    "build/$preset/tests/cuda/halfway_test_cuda_schedules" --log_level=message --color_output=no | sed "s/^/$preset: /"
done
