// Whose threads help in a parallel region, and in which order they come to it.
#pragma once

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "halfway/parallel.h"

namespace rig {

class Executor final : public halfway::Executor {
 public:
  enum class Order : std::uint8_t { forward, backward, threads_backward };
  explicit Executor(Order order) : order_(order) {}

  int concurrency() const noexcept override { return 4; }
  void run(int tasks, Task task, void* context) noexcept override {
    most_tasks = std::max(most_tasks, tasks);
    std::vector<std::thread> threads;
    for (int i = 0; i < tasks; ++i) {
      const int index = order_ == Order::forward ? i : tasks - 1 - i;
      if (order_ != Order::threads_backward) {
        task(context, index);
        continue;
      }
      threads.emplace_back([=] { task(context, index); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  int most_tasks = 0;  // of a call

 private:
  const Order order_;
};

// The built-in pool with four threads, or an executor, for the time being.
class Threads {
 public:
  explicit Threads(std::optional<Executor::Order> order = {}) {
    if (order) {
      executor_.emplace(*order);
      halfway::set_executor(&*executor_);
    } else {
      halfway::set_num_threads(4);
    }
  }
  ~Threads() {
    halfway::set_executor(nullptr);
    halfway::set_num_threads(0);
  }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  std::optional<Executor> executor_;
};

template <class F>
void with_all_kinds_of_threads(F test) {
  using Order = Executor::Order;
  for (const std::optional<Order> order : {std::optional<Order>(), std::optional(Order::forward),
                                           std::optional(Order::backward), std::optional(Order::threads_backward)}) {
    BOOST_TEST_CONTEXT("executor " << (order ? static_cast<int>(*order) : -1)) {
      const Threads threads(order);
      test();
    }
  }
}

}  // namespace rig
