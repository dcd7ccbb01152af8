// What each task of a pass over a batch does: parts of about equal bytes, read and written, however these are spread
// over the samples. Private to the runtime.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {
namespace detail {

class BatchShares {
 public:
  // Samples are cut into pieces of equal length, of which a task does some that follow each other.
  struct Place {
    std::int64_t sample;
    std::int64_t piece;

    friend bool operator==(const Place&, const Place&) = default;
  };

  // `row_bytes` are written for each sample, `bytes` in all are read and written, which are worth so many tasks.
  // `even`: the samples have as many bytes each. Borrows the samples. At least one sample and one task.
  BatchShares(std::span<const TensorView> samples, std::size_t row_bytes, std::size_t bytes, bool even,
              std::int64_t worth) noexcept;

  [[nodiscard]] std::int64_t tasks() const noexcept { return tasks_; }
  [[nodiscard]] std::int64_t pieces(std::int64_t sample) const noexcept;

  // The first piece of a task; of `tasks()`, the place behind the last sample.
  [[nodiscard]] Place begin(std::int64_t task) const noexcept;

 private:
  [[nodiscard]] std::size_t bytes_of(std::int64_t sample) const noexcept;
  void deal(std::size_t bytes) noexcept;

  // A task of uneven samples has at most one piece more than it should.
  static constexpr std::int64_t pieces_a_task = 4;
  static constexpr std::int64_t most_uneven = 256;  // tasks of uneven samples

  std::span<const TensorView> samples_;
  std::size_t row_bytes_;
  std::int64_t tasks_;
  std::int64_t pieces_ = 0;      // of each sample, where they are even
  std::size_t piece_bytes_ = 0;  // at most, where they are not
  std::array<Place, most_uneven + 1> begins_;
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
