# Registers every Boost.Test case of an executable as a CTest of its own.
include_guard(GLOBAL)

# halfway_discover_boost_tests(<target> PREFIX <subject> [TIMEOUT <seconds>] [LABELS <label>])
#
# The cases are listed by the executable itself, after each build of it. A case is named <subject>/<suite>/<case>
# (<suite>/<case> where the suite is called like the subject). The members of a data-driven case are one CTest: Boost
# only numbers them (_0, _1, ...), so their names would say nothing, a dataset of thousands would spend its time in
# starting processes, and a failure prints the member's values anyway. A Boost.Test label of a case is a label of its
# CTest, beside those given here. A case that finds nothing to test here prints a line that begins with "skipped: ", and
# counts as skipped.
function(halfway_discover_boost_tests target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PREFIX;TIMEOUT;LABELS" "")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  set(tests_file "${CMAKE_CURRENT_BINARY_DIR}/${target}_tests.cmake")
  set(include_file "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake")

  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND "${CMAKE_COMMAND}"
      "-Dexecutable=$<TARGET_FILE:${target}>"
      "-Dprefix=${arg_PREFIX}"
      "-Dtimeout=${arg_TIMEOUT}"
      "-Dlabels=${arg_LABELS}"
      "-Doutput=${tests_file}"
      -P "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/HalfwayBoostTestList.cmake"
    BYPRODUCTS "${tests_file}"
    VERBATIM)

  # An executable that was not built is a failing test, never silence.
  file(CONFIGURE OUTPUT "${include_file}" @ONLY CONTENT [=[
if(EXISTS "@tests_file@")
  include("@tests_file@")
else()
  add_test("@arg_PREFIX@_NOT_BUILT" "@arg_PREFIX@_NOT_BUILT")
  set_tests_properties("@arg_PREFIX@_NOT_BUILT" PROPERTIES LABELS "@arg_LABELS@")
endif()
]=])
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${include_file}")
endfunction()
