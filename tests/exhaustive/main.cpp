// Runs sweeps over the casts, one line each; exit status 1 if any value is wrong, 2 for errors of usage.
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <thread>

#include "runner.h"
#include "sweep.h"
#include "threads.h"
#include "tiers.h"

namespace {

using sweep::Sweep;
using Clock = std::chrono::steady_clock;

constexpr const char* usage = R"(usage: halfway_exhaustive [option...]
  --share K/N       the K-th of N shares of each sweep (1/1: everything); all N together are everything
  --seed S          which chunks make a share, and what is random in them (0)
  --seconds X       begin no chunk after X seconds, but run at least one of each sweep; 0: no limit
  --only TEXT       sweeps with TEXT in their name
  --tier NAME       with the library's loops for this instruction set alone; without it, each in a process of its own
  --skip-once       leave out what does not depend on the instruction set
  --skip-in-turn    leave out what a limited time has with one instruction set alone
  --threads T       (the processors there are)
  --list            the names of the sweeps and their chunks
  --list-tiers      the instruction sets
)";

struct Options {
  sweep::Share share;
  double seconds = 0;
  std::string only;
  std::optional<std::string> tier;
  bool skip_once = false;
  bool skip_in_turn = false;
  unsigned threads = std::max(1U, std::thread::hardware_concurrency());
  bool list = false;
  bool list_tiers = false;
};

template <class T>
T number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw std::invalid_argument("'" + std::string(text) + "' is not a number");
  }
  return value;
}

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& name = arguments[i];
    const auto value = [&]() -> const std::string& {
      if (i + 1 == arguments.size()) throw std::invalid_argument(name + " needs a value");
      return arguments[++i];
    };
    if (name == "--share") {
      const std::string& text = value();
      const std::size_t slash = text.find('/');
      if (slash == std::string::npos) throw std::invalid_argument("--share is K/N, not '" + text + "'");
      options.share.number = number<std::uint64_t>(std::string_view(text).substr(0, slash));
      options.share.shares = number<std::uint64_t>(std::string_view(text).substr(slash + 1));
      if (options.share.number < 1 || options.share.number > options.share.shares) {
        throw std::invalid_argument("there is no share " + text);
      }
    } else if (name == "--seed") {
      options.share.seed = number<std::uint64_t>(value());
    } else if (name == "--seconds") {
      options.seconds = static_cast<double>(number<unsigned>(value()));
    } else if (name == "--only") {
      options.only = value();
    } else if (name == "--tier") {
      options.tier = value();
    } else if (name == "--skip-once") {
      options.skip_once = true;
    } else if (name == "--skip-in-turn") {
      options.skip_in_turn = true;
    } else if (name == "--threads") {
      options.threads = std::max(1U, number<unsigned>(value()));
    } else if (name == "--list") {
      options.list = true;
    } else if (name == "--list-tiers") {
      options.list_tiers = true;
    } else {
      throw std::invalid_argument("unknown option " + name);
    }
  }
  return options;
}

std::vector<Sweep> all_sweeps(const Options& options) {
  std::vector<Sweep> sweeps;  // the small ones first: what they leave of a limited time goes to the large ones
  sweep::add_oracle_sweeps(sweeps);
  sweep::add_narrow_sweeps(sweeps);
  sweep::add_integer_sweeps(sweeps);
  sweep::add_float64_sweeps(sweeps);
  sweep::add_cuda_sweeps(sweeps);
  sweep::add_float32_sweeps(sweeps);
  std::erase_if(sweeps, [&options](const Sweep& s) {
    return (options.skip_once && s.once) || (options.skip_in_turn && s.in_turn) ||
           s.name.find(options.only) == std::string::npos;
  });
  return sweeps;
}

struct Totals {
  std::uint64_t passed = 0;
  std::uint64_t failed = 0;
  std::uint64_t skipped = 0;
};

int summarise(const Totals& totals) {
  std::cout << totals.passed << " passed, " << totals.failed << " failed, " << totals.skipped << " skipped"
            << std::endl;
  return totals.failed == 0 ? 0 : 1;
}

int run_here(const Options& options) {
  threads::only_mine();
  const std::vector<Sweep> sweeps = all_sweeps(options);
  if (sweeps.empty()) throw std::invalid_argument("no sweep has '" + options.only + "' in its name");
  const std::string tier = options.tier.value_or("");
  const Clock::time_point start = Clock::now();
  const auto limit = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.seconds));
  Totals totals;
  for (std::size_t i = 0; i < sweeps.size(); ++i) {
    const Sweep& sweep = sweeps[i];
    const std::string name = (tier.empty() ? "" : tier + "/") + sweep.name;
    if (!sweep.skipped.empty()) {
      std::printf("skip %-34s %s\n", name.c_str(), sweep.skipped.c_str());
      ++totals.skipped;
      continue;
    }
    const Clock::time_point begin = Clock::now();
    std::optional<Clock::time_point> deadline;
    if (options.seconds > 0) {
      deadline = begin + std::max(start + limit - begin, Clock::duration(0)) / static_cast<long>(sweeps.size() - i);
    }
    const sweep::Result result = sweep::run(sweep, options.share, options.threads, deadline);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const bool failed = result.findings.mismatches() > 0 || result.vacuous(sweep);
    ++(failed ? totals.failed : totals.passed);
    std::printf("%s %-34s %13llu checked, %llu wrong, %llu of %llu chunks, %.1f s\n", failed ? "FAIL" : "ok  ",
                name.c_str(), static_cast<unsigned long long>(result.findings.checked()),
                static_cast<unsigned long long>(result.findings.mismatches()),
                static_cast<unsigned long long>(result.done), static_cast<unsigned long long>(sweep.chunks), seconds);
    for (const std::string& line : result.findings.lines()) std::printf("     %s\n", line.c_str());
    std::fflush(stdout);
  }
  return summarise(totals);
}

[[noreturn]] void execute(const std::string& program, const std::vector<std::string>& arguments,
                          const std::string& tier) {
  setenv("HALFWAY_TIER", tier.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): no thread has been started
  std::vector<char*> words{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  execvp(program.c_str(), words.data());
  std::perror(program.c_str());
  std::_Exit(2);
}

// One tier in a child, whose lines are counted on their way. What a child that does not end well leaves out counts as
// one failure.
void run_child(const std::string& program, std::vector<std::string> arguments, const std::string& tier,
               Totals& totals) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("pipe failed");
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    arguments.insert(arguments.end(), {"--tier", tier});
    execute(program, arguments, tier);
  }
  close(ends[1]);
  FILE* const output = fdopen(ends[0], "r");
  const std::uint64_t failed_before = totals.failed;
  bool summed_up = false;
  char* line = nullptr;
  std::size_t capacity = 0;
  while (getline(&line, &capacity, output) > 0) {
    const std::string_view text(line);
    if (text.substr(0, 4) == "ok  ") ++totals.passed;
    if (text.substr(0, 4) == "FAIL") ++totals.failed;
    if (text.substr(0, 4) == "skip") ++totals.skipped;
    summed_up = text.find(" passed, ") != std::string_view::npos;
    if (!summed_up) std::cout << text << std::flush;
  }
  std::free(line);
  std::fclose(output);
  int status = 0;
  waitpid(child, &status, 0);
  const bool ended_well = summed_up && WIFEXITED(status) && WEXITSTATUS(status) <= 1;
  if (ended_well && (WEXITSTATUS(status) == 0) == (totals.failed == failed_before)) return;
  ++totals.failed;
  std::cout << "FAIL " << tier << "/process: ended with status " << status << std::endl;
}

int run_all_tiers(const std::string& program, const std::vector<std::string>& arguments, const Options& options,
                  const std::vector<std::string>& tiers) {
  Totals totals;
  for (std::size_t i = 0; i < tiers.size(); ++i) {
    std::vector<std::string> own = arguments;
    Options part = options;
    if (i > 0 && !options.skip_once) {
      part.skip_once = true;
      own.emplace_back("--skip-once");
    }
    // The seeds of successive days are successive numbers.
    if (options.seconds > 0 && i != options.share.seed % tiers.size() && !options.skip_in_turn) {
      part.skip_in_turn = true;
      own.emplace_back("--skip-in-turn");
    }
    // What --only names may all be done by another tier.
    if (all_sweeps(part).empty() && !all_sweeps(options).empty()) continue;
    if (options.seconds > 0) {
      const auto seconds = static_cast<unsigned>(options.seconds / static_cast<double>(tiers.size()));
      own.insert(own.end(), {"--seconds", std::to_string(std::max(1U, seconds))});  // the last one counts
    }
    run_child(program, own, tiers[i], totals);
  }
  return summarise(totals);
}

int run(const std::string& program, const std::vector<std::string>& arguments) {
  const Options options = parse(arguments);
  if (options.list) {
    for (const Sweep& sweep : all_sweeps(options)) std::cout << sweep.name << " " << sweep.chunks << "\n";
    return 0;
  }
  const std::vector<std::string> tiers = tiers::available();
  if (options.list_tiers) {
    for (const std::string& tier : tiers) std::cout << tier << "\n";
    return 0;
  }
  if (!options.tier) {
    return tiers.size() == 1 && tiers[0].empty() ? run_here(options)
                                                 : run_all_tiers(program, arguments, options, tiers);
  }
  // The library reads the variable once, at first use: before anything else runs.
  const char* const set = std::getenv("HALFWAY_TIER");  // NOLINT(concurrency-mt-unsafe)
  if (set == nullptr || *options.tier != set) execute(program, arguments, *options.tier);
  if (tiers::active() != *options.tier) {
    throw std::invalid_argument("the library has no tier '" + *options.tier + "' here: '" + tiers::active() +
                                "' is active");
  }
  return run_here(options);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argv[0], {argv + 1, argv + argc});
  } catch (const std::invalid_argument& error) {
    std::cerr << "halfway_exhaustive: " << error.what() << "\n" << usage;
  } catch (const std::exception& error) {
    std::cerr << "halfway_exhaustive: " << error.what() << "\n";
  }
  return 2;
}
