// What a call is refused for, as tests compare it.
#pragma once

#include <string>
#include <utility>

#include "halfway/error.h"

namespace halfway_test {

// The reason for which `body` throws an Error, or "nothing". Whatever else it throws is a failure of the test.
template <class Body>
std::string reason_of(Body&& body) {
  try {
    std::forward<Body>(body)();
  } catch (const halfway::Error& error) {
    return std::string(to_string(error.reason()));
  }
  return "nothing";
}

}  // namespace halfway_test
