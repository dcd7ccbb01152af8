#!/usr/bin/env bash
# Installs the C++ part, static and shared, and builds and runs a consumer of it in each supported way.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$(pwd)
work=$root/build/package
log=$work/log
jobs=${JOBS:-2}
mkdir -p "$work"
. tools/compiler_cache.sh

torch=$("$root/.venv/bin/python" -c \
  'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")')
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)

key=$({
  c++ --version
  clang++ --version
  cmake --version
  echo "nvcc: ${nvcc:+$("$nvcc" --version)}"
  echo "torch: $torch ${torch:+$(cat "$torch/version.py")}"
  find CMakeLists.txt CMakePresets.json cmake runtime cuda bindings/cpp tests/package tools/package_test.sh docs/cpp.md -type f |
    LC_ALL=C sort | xargs sha256sum
} | sha256sum | cut -d' ' -f1)
if [ "$(cat "$work/.passed" 2>/dev/null || true)" = "$key" ]; then
  echo "package-test: nothing changed since it passed"
  exit 0
fi
rm -f "$work/.passed"

fail() {
  echo "package-test: $*" >&2
  exit 1
}
quiet() { # quiet COMMAND...: its output is shown if it fails
  "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    fail "failed: $*"
  }
}
passed() { echo "  ok   $*"; }

# With a cache the kernels are the wheel's, else those of one architecture, which take a third of the time.
architectures=(-DHALFWAY_CUDA_ARCHITECTURES=90-real)
[ -z "$compiler_cache_program" ] || architectures=(-UHALFWAY_CUDA_ARCHITECTURES)
# One build, static and then shared, so that what is the same in both is compiled once. Installed with DESTDIR into a
# staging folder and then moved: no file may know where it was built or first installed.
# The shared one has its headers where distributions put those of several versions.
for kind in static shared; do
  shared=$([ "$kind" = shared ] && echo ON || echo OFF)
  include=$([ "$kind" = shared ] && echo include/halfway-0 || echo include)
  quiet cmake --preset release -B "$work/build" -DBUILD_SHARED_LIBS="$shared" -DHALFWAY_WERROR=ON \
    "${architectures[@]}" "${compiler_cache[@]}" -DCMAKE_INSTALL_PREFIX=/opt/halfway -DCMAKE_INSTALL_LIBDIR=lib \
    -DCMAKE_INSTALL_INCLUDEDIR="$include" -DPython_EXECUTABLE="$root/.venv/bin/python"
  quiet cmake --build "$work/build" -j "$jobs"
  rm -rf "$work/stage-$kind" "$work/prefix-$kind"
  quiet env DESTDIR="$work/stage-$kind" cmake --install "$work/build"
  mv "$work/stage-$kind/opt/halfway" "$work/prefix-$kind"
  [ -z "$(find "$work/stage-$kind" -type f)" ] || fail "files installed outside the prefix: $work/stage-$kind"
  if grep -rIl -e "$root" -e /opt/halfway "$work/prefix-$kind"; then
    fail "these installed files name a path of the build"
  fi
  if [ -n "$(find "$work/prefix-$kind" -name '*dlpack.h' ! -path '*/halfway/*')" ]; then
    fail "the DLPack header is a private dependency and must not be installed"
  fi
done
# The headers that are linted alone, all of them and no others.
for kind in static shared; do
  include=$([ "$kind" = shared ] && echo include/halfway-0 || echo include)
  installed=$(cd "$work/prefix-$kind/$include" && find . -name '*.h' | LC_ALL=C sort)
  components=(runtime bindings/cpp)
  [ ! -e "$work/prefix-$kind/lib/libhalfway_cuda.a" ] || components+=(cuda)
  wanted=$(for part in "${components[@]}"; do (cd "$part/include" && find . -name '*.h'); done | LC_ALL=C sort)
  [ "$installed" = "$wanted" ] || fail "the installed headers are not the tree's: $(diff <(echo "$wanted") <(echo "$installed"))"
done
passed "install"

# What the shared library shows and needs.
library=$work/prefix-shared/lib/libhalfway_runtime.so
exported=$(nm -D --defined-only "$library" | awk '{print $3}' | c++filt)
[ -n "$exported" ] || fail "the shared library exports nothing"
foreign=$(grep -vE '^(typeinfo (name )?for |vtable for |VTT for |guard variable for )?(non-virtual thunk to )?halfway::' \
  <<<"$exported" || true)
[ -z "$foreign" ] || fail "exported from outside namespace halfway:"$'\n'"$foreign"
needed=$(ldd "$library")
if grep -E 'not found|libpython|libtorch|libc10|libcuda' <<<"$needed"; then
  fail "the shared library needs the above"
fi
# Of an archive, what another object could clash with (weak ones are of templates of the C++ library).
foreign=$(nm -C --defined-only --extern-only "$work/prefix-static/lib/libhalfway_runtime.a" 2>/dev/null |
  awk '$2 ~ /^[TDBRC]$/' | cut -d' ' -f3- |
  grep -vE '^(typeinfo (name )?for |vtable for |VTT for )?(non-virtual thunk to )?halfway::' || true)
[ -z "$foreign" ] || fail "in the archive, outside namespace halfway:"$'\n'"$foreign"
passed "symbols"

consume() { # consume NAME CXX CMAKE-OPTION...: configures, builds and runs the consumer
  local name=$1 compiler=$2
  shift 2
  rm -rf "$work/consumer-$name"
  quiet cmake -G Ninja -S tests/package -B "$work/consumer-$name" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_COMPILER="$compiler" "$@"
  quiet cmake --build "$work/consumer-$name" -j "$jobs"
  quiet "$work/consumer-$name/consumer"
  passed "$name"
}
for kind in static shared; do
  for compiler in g++ clang++; do
    consume "find_package-$kind-$compiler" "$compiler" -DCMAKE_PREFIX_PATH="$work/prefix-$kind"
  done
done
# With a libtorch, where this environment has one, without looking for a CUDA toolkit; and by its own package, which looks
# for one if the libtorch is for CUDA.
if [ -n "$torch" ]; then
  torch_options=(-DCMAKE_CXX_FLAGS_RELEASE=-O0)
  consume torch-static-g++ g++ -DCMAKE_PREFIX_PATH="$work/prefix-static" "${torch_options[@]}" \
    -DTORCH="$torch" -DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON
  quiet "$work/consumer-torch-static-g++/app"
  if [ -n "$nvcc" ] || [ ! -e "$torch/lib/libtorch_cuda.so" ]; then
    consume torch-shared-clang++ clang++ -DCMAKE_PREFIX_PATH="$work/prefix-shared" "${torch_options[@]}" \
      -DTorch_DIR="$torch/share/cmake/Torch"
    quiet "$work/consumer-torch-shared-clang++/app"
  else
    echo "  --   find_package(Torch): this libtorch is for CUDA, and there is no toolkit"
  fi
else
  echo "  --   torch: this environment has no libtorch"
fi
consume "fetch_content" clang++ -DHALFWAY_SOURCE="$root" -DHALFWAY_FETCH=ON -DCMAKE_UNITY_BUILD=ON \
  -DPython_EXECUTABLE="$root/.venv/bin/python"
# The same build, so that configuring it is what there is to see, here with the CUDA backend where it can be built.
rm -rf "$work/consumer-add_subdirectory"
quiet cmake -G Ninja -S tests/package -B "$work/consumer-add_subdirectory" -DHALFWAY_SOURCE="$root" \
  -DPython_EXECUTABLE="$root/.venv/bin/python" -DBUILD_SHARED_LIBS=ON ${nvcc:+-DHALFWAY_CUDA=ON}
quiet env DESTDIR="$work/stage-add_subdirectory" cmake --install "$work/consumer-add_subdirectory"
[ -z "$(find "$work/stage-add_subdirectory" -type f 2>/dev/null)" ] || fail "a subdirectory installs files of its parent's"
passed "add_subdirectory"

for kind in static shared; do
  export PKG_CONFIG_PATH=$work/prefix-$kind/lib/pkgconfig
  read -ra flags <<<"$(pkg-config --cflags --libs halfway-runtime)"
  quiet g++ -std=c++20 -O2 tests/package/consumer.cpp -o "$work/consumer-pkgconfig-$kind" "${flags[@]}" \
    "-Wl,-rpath,$work/prefix-$kind/lib"
  quiet "$work/consumer-pkgconfig-$kind"
  passed "pkg-config-$kind"
done

printf '%s\n' "$key" >"$work/.passed"
