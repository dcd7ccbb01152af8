// Scenarios: an executable of tests runs itself again, with an environment of its own, to do one thing instead of its
// cases and to tell by its exit status how that went.
//
//   int first_use() { ... }
//   struct Scenario {
//     Scenario() { scenario::run_if_asked({{"first_use", first_use}}); }
//   };
//   BOOST_TEST_GLOBAL_FIXTURE(Scenario);
//   BOOST_AUTO_TEST_CASE(...) { BOOST_TEST(scenario::run("first_use", {{"HALFWAY_TIER", "baseline"}}) == 0); }
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <string>

namespace scenario {

using Table = std::map<std::string, std::function<int()>>;
using Environment = std::map<std::string, std::optional<std::string>>;  // nullopt: unset

// For a global fixture, which runs before any case. The process then ends as programs do.
inline void run_if_asked(const Table& table) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread yet
  if (const char* name = std::getenv("HALFWAY_TEST_SCENARIO")) std::exit(table.at(name)());
}

// The exit status of a child, or minus the signal that ended it.
inline int status_of(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1000;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// Runs a scenario and returns its status. One that hangs is ended by a signal.
inline int run(const std::string& name, const Environment& environment = {}) {
  const pid_t child = fork();
  if (child == 0) {
    // NOLINTBEGIN(concurrency-mt-unsafe): the child has one thread
    for (const auto& [variable, value] : environment) {
      if (value) {
        setenv(variable.c_str(), value->c_str(), 1);
      } else {
        unsetenv(variable.c_str());
      }
    }
    setenv("HALFWAY_TEST_SCENARIO", name.c_str(), 1);
    // NOLINTEND(concurrency-mt-unsafe)
    alarm(60);
    execl("/proc/self/exe", "test", "--log_level=nothing", nullptr);
    _exit(127);
  }
  return status_of(child);
}

}  // namespace scenario
