// Collating in steps, for whoever has several batches to fill or none: nothing is written before all of them are found
// to fit and every value that must survive is known to. Private to the runtime and its bindings.
//
//   Collation one(samples, dtype, options);           // throws what is wrong with shapes and dtypes
//   Tensor result = one.allocate(default_allocator());
//   one.write_fresh(result.mutable_view());           // may throw, having written into `result`
//
//   Collation two(samples, destination, options);
//   two.check();                                      // may throw
//   two.write();                                      // never throws
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cast/batch.h"
#include "cast/permutation.h"
#include "halfway/collate.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// How messages call what is collated. The path, where samples were found in a tree, stands behind both names:
// "samples[3]['image']".
struct CollationNames {
  std::string_view path{};
  std::string_view destination = "the destination";
};

class Collation {
 public:
  // Into memory of its own. `samples`, what they view, the names, the report and what the options borrow must outlive
  // this object.
  // throws: as collate()
  Collation(std::span<const TensorView> samples, DType dtype, const CollateOptions& options,
            const CollationNames& names = {});

  // Into `destination`, which must outlive this object, too. throws: as collate_into()
  Collation(std::span<const TensorView> samples, const MutableView& destination, const CollateOptions& options,
            const CollationNames& names = {});

  // Of the result.
  [[nodiscard]] std::span<const std::int64_t> shape() const noexcept { return shape_; }
  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  // What is read and written.
  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }

  // Row-major memory for the result. throws: Error (malformed: too many elements), std::bad_alloc
  [[nodiscard]] Tensor allocate(Allocator& allocator) const { return Tensor::allocate(shape_, dtype_, allocator); }

  // Writes into memory that is thrown away when this throws. throws: CastError, Error (unavailable)
  void write_fresh(const MutableView& fresh);

  // Looks for values that must not be lost, and counts where write() would not count any more. throws: CastError, Error
  // (unavailable)
  void check();

  // After check(). throws: nothing
  void write() noexcept;

 private:
  void require_samples();
  void require_sample(std::size_t index);
  void require_axis_of(std::size_t index);
  void require_destination();
  void measure(std::size_t size);
  void encode_padding();
  [[nodiscard]] Batch batch(const MutableView& destination) const noexcept;
  void run(const MutableView& destination, bool writes, bool counts);
  [[noreturn]] void refuse_shape(std::size_t index) const;
  [[nodiscard]] std::string name_of(std::size_t index) const;
  [[nodiscard]] std::string destination_name() const;

  template <class Body>
  void named(std::size_t index, Body&& body) const;

  std::span<const TensorView> given_;
  std::span<const TensorView> samples_;  // their axes in the result's order
  CollateOptions options_;
  CollationNames names_;
  DType dtype_{};
  bool swapped_ = false;       // the destination is
  MutableView destination_{};  // nowhere unless `into_`
  bool into_ = false;
  std::vector<std::int64_t> shape_;
  std::vector<TensorView> permuted_;       // `samples_`, where axes are permuted
  std::vector<std::int64_t> geometry_;     // what these view: shape and strides of one after the other
  Permutation permutation_;                // of the given samples' axes
  std::size_t last_axis_ = 0;              // of the given samples, the one that is the result's last
  std::size_t axis_ = Positions::no_axis;  // of `samples_`, that coefficients go along
  Transforms transforms_;
  std::int64_t row_ = 0;          // elements of the result that belong to a sample
  std::int64_t count_ = 0;        // elements of the sample that was looked at last
  std::int64_t first_count_ = 0;  // of the first one
  std::int64_t read_ = 0;         // bytes of all samples
  std::int64_t first_bytes_ = 0;  // of the first one
  bool even_ = true;              // each sample has as many
  std::int64_t bytes_ = 0;
  bool pads_ = false;      // some sample is shorter than the result
  bool may_lose_ = false;  // some value may be one that must not be lost
  bool checked_ = false;
  const Kernels* kernels_ = nullptr;
  std::vector<std::byte> padding_;  // one element as the destination stores it
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
