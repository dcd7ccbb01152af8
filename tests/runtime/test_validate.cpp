// The validator against a table of wrong and odd structs, and against a wide-integer model over hostile random ones.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "box.h"
#include "halfway/dtype.h"
#include "halfway/layout.h"
#include "halfway/validate.h"
#include "structs.h"

namespace {

using halfway::Reason;
using namespace halfway_test;  // NOLINT(google-build-using-namespace)
namespace data = boost::unit_test::data;

template <class Managed>
std::string found(const Row& row) {
  Producer<Managed> producer;
  row.build(parts(producer));
  return std::string(to_string(halfway::validate(producer.managed)));
}

BOOST_AUTO_TEST_SUITE(validate)

BOOST_DATA_TEST_CASE(names_the_defect, data::make(wrong_structs()), row) {
  BOOST_TEST(found<DLManagedTensorVersioned>(row) == to_string(row.defect));
  if (row.legacy) BOOST_TEST(found<DLManagedTensor>(row) == to_string(row.defect));
}

BOOST_DATA_TEST_CASE(accepts_the_odd, data::make(odd_structs()), row) {
  BOOST_TEST(found<DLManagedTensorVersioned>(row) == "none");
  if (row.legacy) BOOST_TEST(found<DLManagedTensor>(row) == "none");
}

BOOST_AUTO_TEST_CASE(the_table_has_every_defect) {
  std::set<Defect> seen{Defect::none};
  for (const Row& row : wrong_structs()) seen.insert(row.defect);
  BOOST_TEST(seen.size() == static_cast<std::size_t>(halfway::defect_count));
}

BOOST_AUTO_TEST_CASE(every_defect_has_a_name_a_sentence_and_a_reason) {
  std::set<std::string_view> names;
  std::set<std::string_view> sentences;
  for (int i = 0; i < halfway::defect_count; ++i) {
    const auto defect = static_cast<Defect>(i);
    names.insert(to_string(defect));
    sentences.insert(describe(defect));
    BOOST_TEST(!describe(defect).ends_with('.'));
  }
  BOOST_TEST(names.size() == static_cast<std::size_t>(halfway::defect_count));
  BOOST_TEST(sentences.size() == static_cast<std::size_t>(halfway::defect_count));

  const std::set<Defect> dtypes{Defect::impossible_bits, Defect::partial_bytes, Defect::sub_byte_strides};
  for (int i = 1; i < halfway::defect_count; ++i) {
    const auto defect = static_cast<Defect>(i);
    const Reason expected = defect == Defect::version ? Reason::version
                            : dtypes.contains(defect) ? Reason::unsupported_dtype
                                                      : Reason::malformed;
    BOOST_TEST(to_string(reason(defect)) == to_string(expected));
  }
}

// --- a model in wide integers

__extension__ using Wide = __int128;

constexpr Wide ceiling = Wide{1} << 100;  // beyond every limit, and far from wrapping

Wide times(Wide a, Wide b) { return a != 0 && b > ceiling / a ? ceiling : a * b; }

struct Model {
  Defect defect = Defect::none;
  Wide low = 0;  // of the accepted: the interval of bytes
  Wide high = 0;
};

// The contract of validate.h, word for word.
Model model(const DLTensor& tensor, std::uint64_t flags) {
  if (tensor.ndim < 0) return {Defect::negative_ndim};
  if (tensor.ndim > 64) return {Defect::too_many_dims};
  if (tensor.ndim > 0 && tensor.shape == nullptr) return {Defect::null_shape};
  const std::vector<std::int64_t> shape(tensor.shape, tensor.shape + tensor.ndim);
  if (std::any_of(shape.begin(), shape.end(), [](std::int64_t d) { return d < 0; })) return {Defect::negative_dim};
  Wide count = 1;
  bool empty = false;
  for (const std::int64_t dim : shape) {
    if (dim == 0) {
      empty = true;
    } else {
      count = times(count, dim);
    }
  }
  if (count > int64_max) return {Defect::too_many_elements};

  const halfway::DType dtype{tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes};
  const bool is_padded = dtype.bits < 8 && (flags & padded) != 0;
  const bool is_packed = dtype.bits < 8 && dtype.lanes == 1 && !is_padded;
  const Wide size = (Wide{dtype.bits} * dtype.lanes + 7) / 8;
  Wide low = 0;
  Wide high = size;
  bool row_major = true;
  if (is_packed) {
    high = (count * dtype.bits + 7) / 8;
  } else if (tensor.strides == nullptr || empty) {
    high = times(count, size);
  } else {
    for (std::size_t i = 0; i < shape.size(); ++i) {
      const Wide stride = shape[i] == 1 ? 0 : tensor.strides[i];
      const Wide magnitude = times(times(stride < 0 ? -stride : stride, shape[i] - 1), size);
      (stride < 0 ? low : high) += stride < 0 ? -magnitude : magnitude;
    }
  }
  if (high - low > int64_max) return {Defect::too_many_bytes};

  Wide expected = 1;
  for (std::size_t i = shape.size(); tensor.strides != nullptr && i-- > 0;) {
    if (shape[i] != 1 && tensor.strides[i] != expected) row_major = false;
    expected = times(expected, shape[i]);
  }

  const auto device = static_cast<int>(tensor.device.device_type);
  const bool address = device == kDLCPU || device == kDLCUDA || device == kDLCUDAHost || device == kDLCUDAManaged;
  if (!empty) {
    const Wide base = Wide{tensor.byte_offset} + (address ? reinterpret_cast<std::uintptr_t>(tensor.data) : 0);
    if (base + high > Wide{uint64_max} || (address && base + low < 0)) return {Defect::address_overflow};
    if (address && tensor.data == nullptr) return {Defect::null_data};
  }
  if (dtype.bits == 0) return {Defect::zero_bits};
  if (dtype.lanes == 0) return {Defect::zero_lanes};
  if (is_impossible(dtype)) return {Defect::impossible_bits};
  const bool number = dtype.code <= 17 && dtype.code != kDLOpaqueHandle;
  const bool whole = is_padded ? dtype.lanes == 1 : dtype.bits * dtype.lanes % 8 == 0 || (is_packed && number);
  if (!whole) return {Defect::partial_bytes};
  if (is_packed && !empty && !row_major) return {Defect::sub_byte_strides};
  return {Defect::none, low, high};
}

class Hostile {
 public:
  explicit Hostile(std::uint64_t seed) : engine_(seed) {}

  std::uint64_t bits() { return engine_(); }
  int below(int n) { return static_cast<int>(engine_() % static_cast<std::uint64_t>(n)); }
  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int>(values.size()))];
  }

  std::int64_t dim() {
    switch (below(8)) {
      case 0:
        return pick<std::int64_t>({0, 0, 1, int64_max, std::int64_t{1} << 31, std::int64_t{1} << 62, -1, int64_min});
      case 1:
        return 1;
      default:
        return 2 + below(4);
    }
  }
  std::int64_t stride() {
    switch (below(10)) {
      case 0:
        return pick<std::int64_t>({int64_min, int64_max, std::int64_t{1} << 60, -(std::int64_t{1} << 60), 0});
      case 1:
        return static_cast<std::int64_t>(bits()) >> below(64);
      default:
        return below(60) - 20;
    }
  }
  DLDataType dtype() {
    switch (below(4)) {
      case 0:
        return {static_cast<std::uint8_t>(bits()), static_cast<std::uint8_t>(bits()),
                static_cast<std::uint16_t>(bits())};
      case 1:
        return {static_cast<std::uint8_t>(below(20)), pick<std::uint8_t>({1, 4, 6, 8, 12, 16}),
                pick<std::uint16_t>({0, 1, 1, 1, 2, 4})};
      default:
        return pick<DLDataType>(
            {{kDLFloat, 32, 1}, {kDLInt, 8, 1}, {kDLComplex, 128, 1}, {kDLInt, 4, 1}, {kDLBool, 8, 1}});
    }
  }
  std::uint64_t address() {
    switch (below(4)) {
      case 0:
        return pick<std::uint64_t>({0, 1, uint64_max, uint64_max - 64, std::uint64_t{1} << 63});
      case 1:
        return bits();
      default:
        return 4096 + static_cast<std::uint64_t>(below(1000));
    }
  }

  // Overwrites `producer`, whose pointers stay readable as far as the contract reads them.
  void fill(Versioned& producer) {
    const int ndim = below(12) == 0 ? pick({-1, 65, 64, 20}) : below(5);
    const auto length = static_cast<std::size_t>(std::clamp(ndim, 0, 64));
    std::vector<std::int64_t> shape(length);
    std::vector<std::int64_t> strides(length);
    for (std::int64_t& value : shape) value = length > 6 ? 1 + below(2) : dim();
    if (below(3) == 0 && halfway::element_count(shape)) {
      halfway::row_major_strides(shape, strides);
    } else {
      for (std::int64_t& value : strides) value = stride();
    }
    producer.set(shape, strides);
    DLTensor& tensor = producer.tensor();
    tensor.ndim = ndim;
    if (below(12) == 0) tensor.shape = nullptr;
    if (below(6) == 0) tensor.strides = nullptr;
    tensor.dtype = dtype();
    tensor.device = {static_cast<DLDeviceType>(pick<int>({1, 1, 1, 2, 3, 13, 8, 15, -5})), below(3)};
    tensor.data = at_address(address());
    tensor.byte_offset = below(3) == 0 ? address() : 0;
    producer.managed.flags = below(4) == 0 ? bits() : 0;
  }

 private:
  std::mt19937_64 engine_;
};

BOOST_AUTO_TEST_CASE(agrees_with_the_model_on_hostile_structs) {
  Hostile hostile(20240601);
  std::set<Defect> seen;
  for (int round = 0; round < 400000; ++round) {
    Versioned producer;
    hostile.fill(producer);
    const DLTensor& tensor = producer.tensor();
    const Model expected = model(tensor, producer.managed.flags);
    const Defect defect = halfway::validate(producer.managed);
    seen.insert(defect);
    if (defect != expected.defect) {
      BOOST_FAIL("round " << round << ": " << to_string(defect) << ", not " << to_string(expected.defect));
    }
    if (defect != Defect::none) continue;

    // What is accepted can be computed with: the layout functions find the model's interval in what an import makes.
    const halfway::Tensor imported = halfway::detail::import_tensor(&producer.managed, halfway::detail::Box::free);
    const halfway::TensorView view = imported.view();
    const auto extent = halfway::extent(view);
    const bool empty = halfway::element_count(view.shape) == 0;
    BOOST_REQUIRE(extent.has_value());
    if (extent->low != (empty ? 0 : static_cast<std::int64_t>(expected.low)) ||
        extent->high != (empty ? 0 : static_cast<std::int64_t>(expected.high))) {
      BOOST_FAIL("round " << round << ": extent " << extent->low << ", " << extent->high);
    }
    for (std::size_t i = 0; i < view.strides.size(); ++i) {
      std::int64_t bytes = 0;
      const auto size = static_cast<std::int64_t>(view.element_size());
      if (__builtin_mul_overflow(view.strides[i], size, &bytes)) BOOST_FAIL("round " << round << ": stride " << i);
    }
  }
  // The generator reaches every defect but the version.
  BOOST_TEST(seen.size() == static_cast<std::size_t>(halfway::defect_count) - 1);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
