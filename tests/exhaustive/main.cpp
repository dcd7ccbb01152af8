// Runs sweeps over the casts, one line each; exit status 1 if any value is wrong, 2 for errors of usage.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <thread>

#include "sweep.h"
#include "threads.h"
#include "tiers.h"

namespace {

using sweep::Checker;
using sweep::Findings;
using sweep::Sweep;
using Clock = std::chrono::steady_clock;

constexpr const char* usage = R"(usage: halfway_exhaustive [option...]
  --share K/N       the K-th of N shares of each sweep (1/1: everything); all N together are everything
  --seed S          which chunks make a share, and what is random in them (0)
  --seconds X       begin no chunk after X seconds, but run at least one of each sweep; 0: no limit
  --only TEXT       sweeps with TEXT in their name
  --tier NAME       with the library's loops for this instruction set alone; without it, each in a process of its own
  --skip-once       leave out what does not depend on the instruction set
  --threads T       (the processors there are)
  --list            the names of the sweeps and their chunks
  --list-tiers      the instruction sets
)";

struct Options {
  std::uint64_t share = 1;
  std::uint64_t shares = 1;
  std::uint64_t seed = 0;
  double seconds = 0;
  std::string only;
  std::optional<std::string> tier;
  bool skip_once = false;
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
      options.share = number<std::uint64_t>(std::string_view(text).substr(0, slash));
      options.shares = number<std::uint64_t>(std::string_view(text).substr(slash + 1));
      if (options.share < 1 || options.share > options.shares) {
        throw std::invalid_argument("there is no share " + text);
      }
    } else if (name == "--seed") {
      options.seed = number<std::uint64_t>(value());
    } else if (name == "--seconds") {
      options.seconds = static_cast<double>(number<unsigned>(value()));
    } else if (name == "--only") {
      options.only = value();
    } else if (name == "--tier") {
      options.tier = value();
    } else if (name == "--skip-once") {
      options.skip_once = true;
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
    return (options.skip_once && s.once) || s.name.find(options.only) == std::string::npos;
  });
  return sweeps;
}

// The chunks of a share: every N-th in an order that the seed chooses, at least one.
class Picked {
 public:
  Picked(const Options& options, const Sweep& sweep) : chunks_(sweep.chunks) {
    std::uint64_t seed = options.seed;
    for (const char c : sweep.name) seed = sweep::mix(seed, static_cast<unsigned char>(c));
    offset_ = seed % chunks_;
    factor_ = chunks_ == 1 ? 1 : 1 + sweep::mix(seed, 1) % (chunks_ - 1);
    while (std::gcd(factor_, chunks_) != 1) ++factor_;
    if (sweep.whole) return;
    first_ = (options.share - 1) % chunks_;
    step_ = options.shares;
  }
  [[nodiscard]] std::uint64_t count() const { return (chunks_ - first_ + step_ - 1) / step_; }
  [[nodiscard]] std::uint64_t operator[](std::uint64_t i) const {
    return ((first_ + i * step_) * factor_ + offset_) % chunks_;
  }

 private:
  std::uint64_t chunks_;
  std::uint64_t offset_;
  std::uint64_t factor_;
  std::uint64_t first_ = 0;
  std::uint64_t step_ = 1;
};

struct Result {
  Findings findings;
  std::uint64_t done = 0;
  std::uint64_t picked = 0;
};

Result run(const Sweep& sweep, const Options& options, std::optional<Clock::time_point> deadline) {
  const Picked picked(options, sweep);
  Result result;
  result.picked = picked.count();
  std::atomic<std::uint64_t> next{0};
  std::mutex mutex;
  const auto work = [&] {
    Findings findings;
    Checker checker(findings);
    std::uint64_t done = 0;
    for (;;) {
      const std::uint64_t i = next++;
      const bool late = deadline && !sweep.whole && i > 0 && Clock::now() > *deadline;
      if (i >= picked.count() || late) break;
      try {
        sweep.run(picked[i], options.seed, checker);
      } catch (const std::exception& error) {
        findings.add_mismatches(1);
        findings.describe("chunk " + std::to_string(picked[i]) + ": " + error.what());
      }
      ++done;
    }
    const std::lock_guard lock(mutex);
    result.findings.merge(findings);
    result.done += done;
  };
  std::vector<std::thread> threads;
  const auto wanted = static_cast<unsigned>(std::min<std::uint64_t>(options.threads, picked.count()));
  for (unsigned i = 1; i < wanted; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return result;
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
    const Result result = run(sweep, options, deadline);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    // Single chunks may be empty (there are no ties between the smallest integers), a whole sweep may not.
    const bool vacuous = result.findings.checked() == 0 && (result.done == sweep.chunks || result.done == 0);
    const bool failed = result.findings.mismatches() > 0 || vacuous;
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
    if (i > 0 && !options.skip_once) own.emplace_back("--skip-once");
    if (options.seconds > 0) {
      const auto part = static_cast<unsigned>(options.seconds / static_cast<double>(tiers.size()));
      own.insert(own.end(), {"--seconds", std::to_string(std::max(1U, part))});  // the last one counts
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
