#!/usr/bin/env bash
# Runs the Python tests against the installed package. The C++ library of the tests comes from build/dev.
set -euo pipefail
cd "$(dirname "$0")/.."
export HALFWAY_PROBE=${HALFWAY_PROBE:-$(pwd)/build/dev/probe/halfway_probe.so}
if [ $# -eq 0 ]; then
  set -- --numprocesses "${JOBS:-2}" --dist worksteal # all of them: worth the workers' own imports
fi
exec .venv/bin/python -m pytest --quiet --junitxml=build/pytest.xml -o junit_family=xunit2 "$@"
