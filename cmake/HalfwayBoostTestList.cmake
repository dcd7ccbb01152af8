# Script: writes the CTest file of one Boost.Test executable. See HalfwayBoostTest.cmake.
# Input: executable, prefix, timeout, labels, output.
cmake_minimum_required(VERSION 3.25)

execute_process(COMMAND "${executable}" --list_content=HRF
  OUTPUT_VARIABLE listing ERROR_VARIABLE listing_on_stderr RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  file(REMOVE "${executable}")  # so that the next build lists again
  message(FATAL_ERROR "listing the cases of ${executable} failed (${status}):\n${listing}${listing_on_stderr}")
endif()
string(APPEND listing "${listing_on_stderr}")  # Boost lists on stderr
string(REPLACE ";" "\\;" listing "${listing}")
string(REPLACE "\n" ";" listing "${listing}")

# The labels of single cases, by name: this listing shows them as `label="<name>|<place>|labels: @<label> ..."`.
execute_process(COMMAND "${executable}" --list_content=DOT OUTPUT_VARIABLE graph ERROR_VARIABLE graph_on_stderr)
string(APPEND graph "${graph_on_stderr}")
string(REGEX MATCHALL "label=\"[^\"|]+\\|[^\"|]*\\|labels:[^\"|]*" labelled "${graph}")
foreach(entry IN LISTS labelled)
  string(REGEX MATCH "^label=\"([^|]+)\\|" _ "${entry}")
  set(labels_of_${CMAKE_MATCH_1} "")
  set(name "${CMAKE_MATCH_1}")
  string(REGEX MATCHALL "@[^ ]+" found "${entry}")
  foreach(label IN LISTS found)
    string(SUBSTRING "${label}" 1 -1 label)
    list(APPEND labels_of_${name} "${label}")
  endforeach()
endforeach()

# Each line is `<4 spaces a level><name>` followed by `*` if enabled and `: description` if it has one. A line whose
# successor is deeper is a suite or, if that successor is called _0, a data-driven case.
set(script "")
set(count 0)

# Registers the case at `path` (a list of suite names and the case's own).
function(register path enabled)
  list(JOIN path "/" filter)
  set(name "${filter}")
  list(GET path 0 first)
  list(GET path -1 last)
  set(all_labels ${labels} ${labels_of_${last}})
  if(NOT first STREQUAL prefix)
    string(PREPEND name "${prefix}/")
  endif()
  string(APPEND script "add_test([==[${name}]==] [==[${executable}]==] [==[--run_test=${filter}]==]"
    " --color_output=no --catch_system_errors=no)\n"
    "set_tests_properties([==[${name}]==] PROPERTIES TIMEOUT ${timeout} LABELS [==[${all_labels}]==]"
    " SKIP_REGULAR_EXPRESSION [==[(^|\n)skipped: ]==]")
  if(NOT enabled)
    string(APPEND script " DISABLED TRUE")
  endif()
  string(APPEND script ")\n")
  set(script "${script}" PARENT_SCOPE)
  math(EXPR count "${count} + 1")
  set(count "${count}" PARENT_SCOPE)
endfunction()

set(path "")      # of the previous line
set(pending "")   # TRUE while the previous line has not been found to be a suite
set(dataset -1)   # depth of the data-driven case whose members are being passed over
foreach(line IN LISTS listing ITEMS "end")
  if(line STREQUAL "end")
    set(spaces "")
    set(name "")
  elseif(line MATCHES "^( *)([^ ].*)$")
    set(spaces "${CMAKE_MATCH_1}")
    set(name "${CMAKE_MATCH_2}")
  else()
    continue()
  endif()
  string(LENGTH "${spaces}" depth)
  math(EXPR depth "${depth} / 4")
  string(REGEX REPLACE ": .*$" "" name "${name}")  # the description; Boost writes `::` of types as `__`
  set(line_enabled FALSE)
  if(name MATCHES "^(.*)\\*$")
    set(name "${CMAKE_MATCH_1}")
    set(line_enabled TRUE)
  endif()
  string(STRIP "${name}" name)

  if(dataset GREATER_EQUAL 0 AND depth GREATER dataset)
    continue()
  endif()
  set(dataset -1)
  if(pending)
    list(LENGTH path previous_depth)
    math(EXPR previous_depth "${previous_depth} - 1")
    if(depth GREATER previous_depth AND NOT name STREQUAL "_0")
      # The previous line was a suite: nothing to register.
    else()
      register("${path}" "${enabled}")
      if(depth GREATER previous_depth)
        set(dataset ${previous_depth})
        set(pending FALSE)
        continue()
      endif()
    endif()
  endif()
  list(SUBLIST path 0 ${depth} path)
  list(APPEND path "${name}")
  set(enabled "${line_enabled}")
  set(pending TRUE)
endforeach()

if(count EQUAL 0)
  file(REMOVE "${executable}")
  message(FATAL_ERROR "${executable} lists no test case")
endif()
file(WRITE "${output}" "${script}")
