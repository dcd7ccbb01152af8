# Finds a libtorch for what this tree compiles against one: tests, benchmarks and examples of halfway/torch.h. Torch's own
# package looks for CUDA, MKL and their like, too, and ends the configuration where a libtorch for CUDA meets no CUDA
# toolkit; the adapter needs none of them.
#
# Looked at, in this order:
#   1. Libtorch_ROOT, a folder with include/ and lib/, if set by the user
#   2. the torch of Python_EXECUTABLE (or the Python that CMake finds), without importing it
#
# Sets Libtorch_FOUND, Libtorch_ROOT, Libtorch_VERSION, Libtorch_CXX11_ABI (whether std::string is the C++11 one), and
# defines the targets Libtorch::cpu (torch_cpu and c10) and, where there is one, Libtorch::c10_cuda. What links them is
# compiled for libtorch's std::string.

if(NOT Libtorch_ROOT)
  if(NOT Python_EXECUTABLE)
    find_package(Python QUIET COMPONENTS Interpreter)
  endif()
  if(Python_EXECUTABLE)
    execute_process(
      COMMAND "${Python_EXECUTABLE}" -c
        "import importlib.util as u; print(*u.find_spec('torch').submodule_search_locations, end='')"
      OUTPUT_VARIABLE _libtorch_package ERROR_QUIET RESULT_VARIABLE _libtorch_status)
    if(_libtorch_status EQUAL 0)
      set(Libtorch_ROOT "${_libtorch_package}" CACHE PATH "A libtorch: the folder with include/ and lib/" FORCE)
    endif()
  endif()
endif()

set(Libtorch_VERSION "")
foreach(_libtorch_header IN ITEMS torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
  if(NOT Libtorch_VERSION AND EXISTS "${Libtorch_ROOT}/include/${_libtorch_header}")
    file(STRINGS "${Libtorch_ROOT}/include/${_libtorch_header}" _libtorch_lines
      REGEX "^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
    string(REGEX MATCHALL " [0-9]+" _libtorch_numbers "${_libtorch_lines}")
    string(REPLACE " " "" _libtorch_numbers "${_libtorch_numbers}")
    list(JOIN _libtorch_numbers "." Libtorch_VERSION)
  endif()
endforeach()

foreach(_libtorch_name IN ITEMS torch_cpu c10 c10_cuda)
  find_library(Libtorch_${_libtorch_name}_LIBRARY ${_libtorch_name}
    PATHS "${Libtorch_ROOT}/lib" NO_DEFAULT_PATH)
  mark_as_advanced(Libtorch_${_libtorch_name}_LIBRARY)
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libtorch
  REQUIRED_VARS Libtorch_ROOT Libtorch_torch_cpu_LIBRARY Libtorch_c10_LIBRARY Libtorch_VERSION
  VERSION_VAR Libtorch_VERSION)

if(Libtorch_FOUND)
  # What the release says of itself; without a word it is the C++11 one.
  set(Libtorch_CXX11_ABI TRUE)
  set(_libtorch_config "${Libtorch_ROOT}/share/cmake/Torch/TorchConfig.cmake")
  if(EXISTS "${_libtorch_config}")
    file(STRINGS "${_libtorch_config}" _libtorch_old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
    if(_libtorch_old_abi)
      set(Libtorch_CXX11_ABI FALSE)
    endif()
  endif()
endif()

if(Libtorch_FOUND AND NOT TARGET Libtorch::cpu)
  add_library(Libtorch::c10 SHARED IMPORTED)
  set_target_properties(Libtorch::c10 PROPERTIES
    IMPORTED_LOCATION "${Libtorch_c10_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES
      "${Libtorch_ROOT}/include;${Libtorch_ROOT}/include/torch/csrc/api/include"
    INTERFACE_COMPILE_DEFINITIONS "$<$<NOT:$<BOOL:${Libtorch_CXX11_ABI}>>:_GLIBCXX_USE_CXX11_ABI=0>"
    # A build for CUDA needs libraries that lie in other wheels, and finds them when it is loaded.
    INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
  add_library(Libtorch::cpu SHARED IMPORTED)
  set_target_properties(Libtorch::cpu PROPERTIES
    IMPORTED_LOCATION "${Libtorch_torch_cpu_LIBRARY}"
    INTERFACE_LINK_LIBRARIES Libtorch::c10)
  if(Libtorch_c10_cuda_LIBRARY)
    add_library(Libtorch::c10_cuda SHARED IMPORTED)
    set_target_properties(Libtorch::c10_cuda PROPERTIES
      IMPORTED_LOCATION "${Libtorch_c10_cuda_LIBRARY}"
      INTERFACE_LINK_LIBRARIES Libtorch::c10)
  endif()
endif()
