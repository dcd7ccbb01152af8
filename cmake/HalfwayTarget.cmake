# What every target of this project is compiled with. Nothing here reaches a consumer of the library.
include_guard(GLOBAL)

# halfway_target(<target> [DLPACK]): C++ language level, visibility, warnings, sanitizers and reproducible floating point.
# DLPACK: the target's sources include <dlpack/dlpack.h>.
function(halfway_target target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "DLPACK" "" "")

  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    UNITY_BUILD OFF  # whatever a parent project does: different sources use the same names in internal linkage
    POSITION_INDEPENDENT_CODE ON
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)

  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wconversion;-Wshadow>")
    target_compile_options(${target} PRIVATE
      # A fused multiply-add that the source does not ask for changes bits between machines; -ffast-math, which may be
      # in a consumer's CMAKE_CXX_FLAGS, takes NaN and rounding away.
      "$<$<COMPILE_LANGUAGE:CXX>:-fno-fast-math;-ffp-contract=off>")
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
      # GCC 12 warns of overlapping copies inside its own std::string concatenation (GCC bug 105651).
      target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>")
    endif()
    if(HALFWAY_WERROR)
      target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Werror>")
    endif()
    if(HALFWAY_SANITIZE)
      target_compile_options(${target} PRIVATE
        "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${HALFWAY_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer>")
      target_link_options(${target} PRIVATE -fsanitize=${HALFWAY_SANITIZE})
    endif()
  elseif(MSVC)
    target_compile_options(${target} PRIVATE /W4 /permissive- /fp:precise $<$<BOOL:${HALFWAY_WERROR}>:/WX>)
  endif()

  if(arg_DLPACK)
    # A plain directory and not a target: a private link of a static library would be exported with it.
    target_include_directories(${target} SYSTEM PRIVATE "$<BUILD_INTERFACE:${DLPackHeader_INCLUDE_DIR}>")
  endif()
endfunction()
