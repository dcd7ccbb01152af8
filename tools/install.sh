#!/usr/bin/env bash
# Installs the package into .venv, not editable: what is tested is what ships. Nothing happens when no source changed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
stamp=.venv/.halfway-installed

sources() {
  find CMakeLists.txt pyproject.toml README.md LICENSE cmake runtime cuda bindings \
    -type f ! -name '*.pyc' ! -path '*/__pycache__/*' | LC_ALL=C sort
}
key=$({
  "$python" -V
  pwd
  c++ --version
  sources | xargs sha256sum
} | sha256sum | cut -d' ' -f1)
installed() { "$python" -c 'from importlib.metadata import version; version("halfway")' 2>/dev/null; }
if [ "$(cat "$stamp" 2>/dev/null || true)" = "$key" ] && installed; then
  exit 0
fi

mkdir -p build
log=build/install.log
export CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-2}
# The compiler that CMake takes by itself, where scikit-build-core would ask Python: the same objects by the same name.
export CXX=${CXX:-c++}
. tools/compiler_cache.sh
defines=$(IFS=';' && echo "${compiler_cache[*]#-D}")
export SKBUILD_CMAKE_DEFINE="HALFWAY_WERROR=ON;$defines"
if ! "$python" -m pip install --disable-pip-version-check --verbose \
  --no-build-isolation --no-deps --force-reinstall . >"$log" 2>&1; then
  tail -n 60 "$log" >&2
  echo "install: failed; the whole log is $log" >&2
  exit 1
fi
printf '%s\n' "$key" >"$stamp"
