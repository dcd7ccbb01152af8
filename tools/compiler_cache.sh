# Sourced from the tree's root. The library is built as it ships twice, for its consumers (package_test.sh) and into the
# wheel (install.sh): with a ccache in the system, what the two have in common is compiled once. The objects and the
# settings are build/ccache's alone.
# Sets compiler_cache, the options that CMake takes for it: without a ccache they say that there is none.
if compiler_cache_program=$(command -v ccache); then
  export CCACHE_DIR="$PWD/build/ccache" CCACHE_MAXSIZE=1G
  # An object's key is what the compiler says that it read. What it preprocesses is not enough for nvcc, which reads a
  # source once for the host and once for each architecture.
  export CCACHE_DEPEND=1
fi
compiler_cache=()
for language in CXX CUDA; do
  compiler_cache+=("-DCMAKE_${language}_COMPILER_LAUNCHER=$compiler_cache_program")
done
