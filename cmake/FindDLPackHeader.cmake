# Finds the directory with dlpack/dlpack.h. The version is read from the header's own macros, because distributions
# ship CMake packages whose version says nothing about the header's.
#
# Looked at, in this order, the first header that is new enough winning:
#   1. DLPackHeader_INCLUDE_DIR, if set by the user
#   2. find_package(dlpack)
#   3. the Python package apache-tvm-ffi, found through Python_EXECUTABLE (or the Python that CMake finds) and the
#      tree's own .venv, without importing it
#   4. FetchContent of DLPack's release
#
# Sets DLPackHeader_FOUND, DLPackHeader_INCLUDE_DIR and DLPackHeader_VERSION.

# The version in <dir>/dlpack/dlpack.h, or an empty string.
function(_dlpack_header_version dir result)
  set(${result} "" PARENT_SCOPE)
  if(NOT EXISTS "${dir}/dlpack/dlpack.h")
    return()
  endif()
  file(STRINGS "${dir}/dlpack/dlpack.h" lines REGEX "^#define DLPACK_(MAJOR|MINOR)_VERSION +[0-9]+")
  string(REGEX MATCH "DLPACK_MAJOR_VERSION +([0-9]+)" _ "${lines}")
  set(major "${CMAKE_MATCH_1}")
  string(REGEX MATCH "DLPACK_MINOR_VERSION +([0-9]+)" _ "${lines}")
  set(minor "${CMAKE_MATCH_1}")
  if(NOT major STREQUAL "" AND NOT minor STREQUAL "")
    set(${result} "${major}.${minor}" PARENT_SCOPE)
  endif()
endfunction()

# Takes <dir> if its header is of the wanted major version and new enough.
function(_dlpack_header_try dir)
  if(DLPackHeader_VERSION)
    return()
  endif()
  _dlpack_header_version("${dir}" version)
  string(REGEX MATCH "^[0-9]+" major "${version}")
  string(REGEX MATCH "^[0-9]+" wanted_major "${DLPackHeader_FIND_VERSION}")
  if(version AND version VERSION_GREATER_EQUAL "${DLPackHeader_FIND_VERSION}" AND major EQUAL wanted_major)
    set(DLPackHeader_VERSION "${version}" PARENT_SCOPE)
    set(DLPackHeader_INCLUDE_DIR "${dir}" CACHE PATH "The directory with dlpack/dlpack.h" FORCE)
  endif()
endfunction()

set(DLPackHeader_VERSION "")
if(DLPackHeader_INCLUDE_DIR)
  _dlpack_header_try("${DLPackHeader_INCLUDE_DIR}")
endif()

if(NOT DLPackHeader_VERSION)
  find_package(dlpack CONFIG QUIET)
  if(TARGET dlpack::dlpack)
    get_target_property(_dlpack_dirs dlpack::dlpack INTERFACE_INCLUDE_DIRECTORIES)
    foreach(_dlpack_dir IN LISTS _dlpack_dirs)
      _dlpack_header_try("${_dlpack_dir}")
    endforeach()
  endif()
endif()

if(NOT DLPackHeader_VERSION)
  if(NOT Python_EXECUTABLE)
    find_package(Python COMPONENTS Interpreter QUIET)
  endif()
  foreach(_dlpack_python IN ITEMS "${Python_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/.venv/bin/python")
    if(NOT DLPackHeader_VERSION AND _dlpack_python AND EXISTS "${_dlpack_python}")
      execute_process(
        COMMAND "${_dlpack_python}" -c
          "import importlib.util as u; print(*u.find_spec('tvm_ffi').submodule_search_locations, sep=';', end='')"
        OUTPUT_VARIABLE _dlpack_packages ERROR_QUIET RESULT_VARIABLE _dlpack_status)
      if(_dlpack_status EQUAL 0)
        foreach(_dlpack_package IN LISTS _dlpack_packages)
          _dlpack_header_try("${_dlpack_package}/include")
        endforeach()
      endif()
    endif()
  endforeach()
endif()

if(NOT DLPackHeader_VERSION)
  message(STATUS "No DLPack header >= ${DLPackHeader_FIND_VERSION} here: fetching it. "
    "Without network: `pip install apache-tvm-ffi`, or set DLPackHeader_INCLUDE_DIR")
  include(FetchContent)
  FetchContent_Declare(halfway_dlpack
    URL https://github.com/dmlc/dlpack/archive/refs/tags/v1.3.tar.gz
    SOURCE_SUBDIR not-used  # a header alone: nothing of its build is wanted
    DOWNLOAD_EXTRACT_TIMESTAMP ON)
  FetchContent_MakeAvailable(halfway_dlpack)
  _dlpack_header_try("${halfway_dlpack_SOURCE_DIR}/include")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(DLPackHeader
  REQUIRED_VARS DLPackHeader_INCLUDE_DIR DLPackHeader_VERSION
  VERSION_VAR DLPackHeader_VERSION)
mark_as_advanced(DLPackHeader_INCLUDE_DIR)
