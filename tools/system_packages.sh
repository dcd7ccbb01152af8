#!/usr/bin/env bash
# Checks that the tools are there, and installs Debian's packages for those that are not: at once as root, else by
# printing the one command. Tools count, not packages: what came from elsewhere is as good, and apt-get is not called
# when nothing is missing. What only saves time is installed as root alone, tried once, and missed by nobody.
# usage: system_packages.sh PYTHON
set -euo pipefail
python=$1

packages=()
need() { # need PACKAGE COMMAND...: PACKAGE is missing unless COMMAND succeeds
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || packages+=("$package")
}
have() { command -v "$1"; }
# Boost's headers come in a package of their own: what counts is that a test would link.
have_boost_test() {
  printf '#if !__has_include(<boost/test/unit_test.hpp>)\n#error\n#endif\nint main() {}\n' |
    c++ -x c++ - -o /dev/null -lboost_unit_test_framework
}
# at_least COMMAND VERSION: the first version number that `COMMAND --version` prints is VERSION or later
at_least() {
  local version
  version=$("$1" --version | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1)
  [ "$(printf '%s\n%s\n' "$2" "$version" | sort -V | head -n 1)" = "$2" ]
}

has_venv() { "$1" -c 'import ensurepip, venv'; }
has_python_header() {
  "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}

look() {
  packages=()
  need g++ at_least g++ 12
  need clang at_least clang++ 14
  need clang-format have clang-format
  need cmake at_least cmake 3.25
  need ninja-build have ninja
  need pkg-config have pkg-config
  need binutils have nm
  need libboost-test-dev have_boost_test

  # Debian's Python comes in parts; any other is taken as it is, and setup.sh says what it lacks.
  if [ -x .venv/bin/python ]; then
    return
  elif ! have "$python" >/dev/null; then
    packages+=(python3 python3-venv python3-dev)
    return
  fi
  local executable name
  executable=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
  case $executable in
    /usr/bin/python3*)
      name=$(basename "$executable")
      [ "$(readlink -f /usr/bin/python3)" != "$executable" ] || name=python3
      need "$name-venv" has_venv "$python"
      need "$name-dev" has_python_header "$python"
      ;;
  esac
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() { # install PACKAGE...
  echo "setup: apt-get install $*"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"; } >"$log" 2>&1
}

# The library is compiled once for both that ship it (compiler_cache.sh).
tried=build/.tried-ccache
if ! { have ccache || [ -e "$tried" ]; } >/dev/null && have apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
  mkdir -p build && touch "$tried"
  install ccache || echo "setup: there is no ccache: the library will be compiled twice"
fi

look
[ ${#packages[@]} -eq 0 ] && exit 0

if ! have apt-get >/dev/null; then
  echo "setup: missing (names of Debian's packages): ${packages[*]}" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "setup: some system packages are missing. Install them with:" >&2
  echo "  sudo apt-get install -y ${packages[*]}" >&2
  exit 1
fi
if ! install "${packages[@]}"; then
  cat "$log" >&2
  echo "setup: apt-get failed" >&2
  exit 1
fi
look
if [ ${#packages[@]} -ne 0 ]; then
  echo "setup: installed, but still missing or too old: ${packages[*]}" >&2
  exit 1
fi
