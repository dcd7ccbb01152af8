# Whether the CUDA backend is built: sets HALFWAY_HAS_CUDA, and enables the language where it is. Without it everything
# else is built, and halfway::cuda says at run time that it was.
include_guard(GLOBAL)

# Binary code, and PTX of the last for whatever comes after it. One of them is a quarter of the compile time of all.
set(HALFWAY_CUDA_ARCHITECTURES "80-real;90-real;100-real;100-virtual" CACHE STRING
  "As CMAKE_CUDA_ARCHITECTURES, for halfway's kernels")

set(HALFWAY_HAS_CUDA OFF)
# A compiler for another processor says nothing about the nvcc that is found here: then only ON looks for it.
if(HALFWAY_CUDA STREQUAL "AUTO" AND CMAKE_CROSSCOMPILING)
  message(STATUS "Cross-compiling: the CUDA backend is not built")
elseif(HALFWAY_CUDA STREQUAL "AUTO" OR HALFWAY_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES "${HALFWAY_CUDA_ARCHITECTURES}")
    enable_language(CUDA)
    find_package(CUDAToolkit 12.8 QUIET)
  endif()
  if(CUDAToolkit_FOUND AND TARGET CUDA::cudart_static)
    set(HALFWAY_HAS_CUDA ON)
  elseif(HALFWAY_CUDA STREQUAL "AUTO")
    message(STATUS "No CUDA toolkit >= 12.8 with a static runtime: the CUDA backend is not built")
  else()
    message(FATAL_ERROR "HALFWAY_CUDA=${HALFWAY_CUDA} needs nvcc and the static runtime of CUDA >= 12.8")
  endif()
endif()
