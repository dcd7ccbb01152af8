#include "batch.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

#include "batch_shares.h"
#include "environment.h"
#include "halfway/layout.h"
#include "operands.h"
#include "parallel_run.h"
#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

constexpr auto grain = static_cast<std::int64_t>(block_components);

MutableView first_row(const MutableView& destination) noexcept {
  MutableView row = destination;
  row.shape = destination.shape.subspan(1);
  row.strides = destination.strides.subspan(1);
  return row;
}

// What the threads share.
struct Shared {
  const Kernels& kernels;
  const Batch& batch;
  bool writes;
  bool counts;
  MutableView row;    // the destination of the first sample
  std::int64_t step;  // bytes from one row to the next
  bool packed_rows;
  std::size_t row_bytes;  // of the destination
  std::size_t bytes;      // that the pass reads and writes
  bool streams = false;

  Shared(const Kernels& used, const Batch& all, bool into, bool counted) noexcept
      : kernels(used),
        batch(all),
        writes(into),
        counts(counted),
        row(first_row(all.destination)),
        step(all.destination.byte_stride(0)),
        packed_rows(is_contiguous(row)),
        row_bytes(static_cast<std::size_t>(all.row) * row.element_size()),
        bytes(all.read) {
    if (writes) bytes += batch.samples.size() * row_bytes;
    streams = row_bytes >= streaming_row_bytes && bytes >= streaming_bytes();
  }

  [[nodiscard]] MutableView row_of(std::int64_t sample) const noexcept {
    MutableView view = row;
    view.data = static_cast<std::byte*>(row.data) + sample * step;
    return view;
  }
};

// One thread's way through a part of a batch.
class Walk {
 public:
  explicit Walk(const Shared& shared) noexcept : shared_(shared) {}

  // The piece `index` of `pieces` equal ones of a sample and of what pads it.
  void run(std::int64_t sample, std::int64_t pieces, std::int64_t index) noexcept {
    const TensorView& source = shared_.batch.samples[static_cast<std::size_t>(sample)];
    const std::int64_t count = element_count(source.shape).value_or(0);
    if (count > 0) convert_piece(source, sample, count, pieces, index);
    if (shared_.writes && count < shared_.batch.row) pad_piece(source, sample, pieces, index);
  }

  [[nodiscard]] const Tally& tally() const noexcept { return tally_; }

 private:
  // Neighbouring samples mostly are of one dtype: the last one's treatment is kept.
  void choose(const TensorView& source) noexcept {
    if (chosen_ && source.dtype == dtype_ && source.swapped == swapped_) return;
    chosen_ = true;
    dtype_ = source.dtype;
    swapped_ = source.swapped;
    const Elements from = elements_of(source);
    const Elements to = elements_of(shared_.row);
    const CastOptions& options = shared_.batch.options;
    const Transform* const transform = shared_.batch.transforms.find(from.dtype, to.dtype, options);
    treatment_ = Treatment::chosen(shared_.kernels, from, to, options, shared_.counts, transform);
    treatment_.streams = shared_.streams;
    plain_ = shared_.packed_rows && !treatment_.counts && !treatment_.streams && treatment_.transform == nullptr &&
             treatment_.from.swap_unit == 1 && treatment_.to.swap_unit == 1 &&
             is_complex(from.dtype) == is_complex(to.dtype);
    components_ = is_complex(from.dtype) ? 2 : 1;
  }

  void convert_piece(const TensorView& source, std::int64_t sample, std::int64_t count, std::int64_t pieces,
                     std::int64_t index) noexcept {
    choose(source);
    const MutableView row = shared_.row_of(sample);
    // A sample that is in its own row already: any other overlap was refused.
    const bool in_place = shared_.writes && source.data == row.data;
    const bool stays = in_place && is_identical(source, row) && !shared_.batch.options.is_affine();
    const bool writes = shared_.writes && !stays;
    if (treatment_.copies && treatment_.counts && index == 0) {
      tally_.report.count += static_cast<std::uint64_t>(count);
    }
    if (!writes && (treatment_.copies || !treatment_.counts)) return;
    if (plain_ && writes && !in_place && count == shared_.batch.row && is_contiguous(source)) {
      return convert_plainly(source, row, {count, grain, pieces, index});
    }
    Positions positions;
    positions.axis = shared_.batch.axis;
    positions.origin = sample * shared_.batch.row;
    if (!row.shape.empty()) positions.last_extent = row.shape.back();
    Positions* const asked = treatment_.transform != nullptr ? &positions : nullptr;
    const Nest nest = writes ? Nest::between(source, row, asked) : Nest::of(source, asked);
    run(nest, treatment_, asked, pieces, index, positions.origin);
  }

  void run(const Nest& nest, const Treatment& treatment, const Positions* positions, std::int64_t pieces,
           std::int64_t index, std::int64_t first) noexcept {
    const Pass pass(shared_.kernels, treatment, nest, positions);
    const Share share = pass.share(pieces, index);
    if (share.begin < share.end) pass.run(share, tally_, scratch_, first);
  }

  void convert_plainly(const TensorView& source, const MutableView& row, const Share& share) const noexcept {
    if (share.begin >= share.end) return;
    const auto n = static_cast<std::size_t>(share.end - share.begin);
    const auto* const from =
        static_cast<const std::byte*>(source.data) + share.begin * static_cast<std::int64_t>(treatment_.from.size);
    std::byte* const to =
        static_cast<std::byte*>(row.data) + share.begin * static_cast<std::int64_t>(treatment_.to.size);
    if (treatment_.copies) {
      std::memcpy(to, from, n * treatment_.to.size);
    } else {
      convert(treatment_.route, from, to, n * components_);
    }
  }

  // What lies behind the end of the sample's last axis, as a copy of one element without steps.
  void pad_piece(const TensorView& source, std::int64_t sample, std::int64_t pieces, std::int64_t index) noexcept {
    static constexpr std::array<std::int64_t, max_ndim> nowhere{};
    const std::size_t last = source.shape.size() - 1;
    const MutableView row = shared_.row_of(sample);
    std::array<std::int64_t, max_ndim> shape;  // NOLINT(cppcoreguidelines-pro-type-member-init): ndim of it are read
    std::copy(row.shape.begin(), row.shape.end(), shape.begin());
    shape[last] -= source.shape[last];
    const std::span<const std::int64_t> behind(shape.data(), row.shape.size());
    MutableView place = row;
    place.shape = behind;
    place.data = static_cast<std::byte*>(row.data) + source.shape[last] * row.byte_stride(last);
    const TensorView padding{.data = shared_.batch.padding,
                             .dtype = row.dtype,
                             .shape = behind,
                             .strides = std::span(nowhere).first(behind.size()),
                             .padded = row.padded};
    const Elements elements{row.dtype, row.element_size(), 1};
    run(Nest::between(padding, place), Treatment::copy(elements, elements), nullptr, pieces, index, 0);
  }

  Scratch scratch_;
  const Shared& shared_;
  Tally tally_;
  bool chosen_ = false;
  DType dtype_{};
  bool swapped_ = false;
  bool plain_ = false;          // where the sample is packed, too, nothing but the loop is left
  std::size_t components_ = 1;  // of an element
  Treatment treatment_{};       // set with `chosen_`
};

}  // namespace

Tally batch_pass(const Kernels& kernels, const Batch& batch, bool writes, bool counts) noexcept {
  const Shared shared(kernels, batch, writes, counts);
  const BatchShares shares(batch.samples, writes ? shared.row_bytes : 0, shared.bytes, batch.even,
                           task_count(shared.bytes));
  Tally total;
  std::mutex adding;
  run_parallel(static_cast<int>(shares.tasks()), useful_threads(shared.bytes), [&](int index) noexcept {
    const DefaultFloatEnvironment environment;
    Walk walk(shared);
    const BatchShares::Place end = shares.begin(index + 1);
    for (BatchShares::Place at = shares.begin(index); at != end;) {
      const std::int64_t pieces = shares.pieces(at.sample);
      walk.run(at.sample, pieces, at.piece);
      if (++at.piece == pieces) at = {at.sample + 1, 0};
    }
    const std::lock_guard lock(adding);
    total += walk.tally();
  });
  return total;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
