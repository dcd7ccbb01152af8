// Import: what it makes of every odd struct, how it refuses every wrong one, and that the producer is released exactly
// once whatever happens.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstring>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "box.h"
#include "counting_new.h"
#include "halfway/dlpack.h"
#include "halfway/error.h"
#include "structs.h"

namespace {

using halfway::DeviceType;
using halfway::Error;
using halfway::from_dlpack;
using halfway::Tensor;
using halfway::TensorView;
using namespace halfway_test;  // NOLINT(google-build-using-namespace)
namespace data = boost::unit_test::data;

// Everything that an import can read, to see that it wrote nothing.
template <class Managed>
struct Snapshot {
  explicit Snapshot(const Producer<Managed>& producer) : shape(producer.shape), strides(producer.strides) {
    std::memcpy(bytes.data(), &producer.managed, sizeof(Managed));
  }
  friend bool operator==(const Snapshot&, const Snapshot&) = default;

  std::array<std::byte, sizeof(Managed)> bytes{};
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
};

// The error of an import that must fail.
template <class Managed>
std::optional<Error> error_of(Producer<Managed>& producer) {
  try {
    static_cast<void>(from_dlpack(&producer.managed));
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

template <class Managed>
void check_refused(const Row& row) {
  Producer<Managed> producer;
  row.build(parts(producer));
  const Snapshot<Managed> before(producer);
  const std::optional<Error> error = error_of(producer);
  BOOST_TEST_REQUIRE(error.has_value());
  BOOST_TEST(to_string(error->reason()) == to_string(reason(row.defect)));
  BOOST_TEST(error->reasons().size() == 1U);
  BOOST_TEST(!error->message().empty());
  BOOST_TEST(std::isupper(static_cast<unsigned char>(error->message().front())) == 0);
  BOOST_TEST(producer.releases == 1);
  BOOST_TEST((Snapshot<Managed>(producer) == before));

  Producer<Managed> ownerless;
  row.build(parts(ownerless));
  ownerless.managed.deleter = nullptr;
  BOOST_TEST(error_of(ownerless).has_value());

  // The inner entry leaves the struct to its caller.
  Producer<Managed> kept;
  row.build(parts(kept));
  BOOST_CHECK_THROW(static_cast<void>(halfway::detail::import_tensor(&kept.managed, halfway::detail::Box::free)),
                    Error);
  BOOST_TEST(kept.releases == 0);
}

template <class Managed>
void check_accepted(const Row& row) {
  Producer<Managed> producer;
  row.build(parts(producer));
  const Snapshot<Managed> before(producer);
  {
    const Tensor tensor = from_dlpack(&producer.managed);
    BOOST_TEST((Snapshot<Managed>(producer) == before));
    const DLTensor& source = producer.tensor();
    const TensorView view = tensor.view();
    BOOST_TEST_REQUIRE(view.shape.size() == static_cast<std::size_t>(source.ndim));
    BOOST_TEST_REQUIRE(view.strides.size() == view.shape.size());
    std::int64_t row_major = 1;
    const bool empty = std::find(producer.shape.begin(), producer.shape.end(), 0) != producer.shape.end();
    for (std::size_t i = view.shape.size(); i-- > 0;) {
      BOOST_TEST(view.shape[i] == producer.shape[i]);
      if (source.strides == nullptr || empty) {
        BOOST_TEST(view.strides[i] == row_major);
      } else if (producer.shape[i] != 1) {
        BOOST_TEST(view.strides[i] == producer.strides[i]);
      }
      row_major *= view.shape[i] == 0 ? 1 : view.shape[i];
    }
    BOOST_TEST(view.dtype.code == source.dtype.code);
    BOOST_TEST(view.dtype.bits == source.dtype.bits);
    BOOST_TEST(view.dtype.lanes == source.dtype.lanes);
    BOOST_TEST(static_cast<std::int32_t>(view.device.type) == static_cast<std::int32_t>(source.device.device_type));
    BOOST_TEST(view.device.id == (is_host(view.device) ? 0 : source.device.device_id));
    BOOST_TEST(view.readonly == ((producer.flags() & DLPACK_FLAG_BITMASK_READ_ONLY) != 0));
    BOOST_TEST(view.padded == ((producer.flags() & padded) != 0 && source.dtype.bits < 8));
    BOOST_TEST(!view.swapped);
    BOOST_TEST(!view.strides_in_bytes);
    const bool folded = is_host(view.device) || view.device.type == DeviceType::cuda;
    if (!empty) {
      const auto address = reinterpret_cast<std::uintptr_t>(source.data) + (folded ? source.byte_offset : 0);
      BOOST_TEST(reinterpret_cast<std::uintptr_t>(view.data) == address);
    }
    BOOST_TEST(producer.releases == 0);

    // What comes out again says the same, in the current version, with every field filled.
    DLManagedTensorVersioned* const out = tensor.share().to_dlpack();
    BOOST_TEST(out->version.major == 1U);
    BOOST_TEST(out->version.minor == 3U);
    BOOST_TEST(out->dl_tensor.data == view.data);
    BOOST_TEST(out->dl_tensor.byte_offset == (folded ? 0 : source.byte_offset));
    BOOST_TEST(out->dl_tensor.strides != nullptr);
    const std::uint64_t known = DLPACK_FLAG_BITMASK_READ_ONLY | (source.dtype.bits < 8 ? padded : 0);
    BOOST_TEST(out->flags == (producer.flags() & known));
    BOOST_TEST((halfway::validate(*out) == Defect::none));
    out->deleter(out);
    BOOST_TEST(producer.releases == 0);
  }
  BOOST_TEST(producer.releases == 1);

  Producer<Managed> ownerless;
  row.build(parts(ownerless));
  ownerless.managed.deleter = nullptr;
  BOOST_CHECK_NO_THROW(static_cast<void>(from_dlpack(&ownerless.managed)));
}

template <class Managed>
void check_out_of_memory() {
  // The producer is made first: it allocates too.
  std::int64_t successes = 0;
  for (bool failed = true; failed; ++successes) {
    Producer<Managed> producer;
    const std::int64_t live = live_allocations;
    bool threw = false;
    {
      const FailingAllocation failing(successes);
      try {
        static_cast<void>(from_dlpack(&producer.managed));
      } catch (const std::bad_alloc&) {
        threw = true;
      }
      failed = FailingAllocation::happened();
    }
    const std::int64_t leaked = live_allocations - live;
    BOOST_TEST(threw == failed);
    BOOST_TEST(producer.releases == 1);
    BOOST_TEST(leaked == 0);
  }
  BOOST_TEST(successes == 2);  // one allocation, so that the second round succeeds
}

BOOST_AUTO_TEST_SUITE(dlpack)

BOOST_DATA_TEST_CASE(refuses_and_releases_once, data::make(wrong_structs()), row) {
  check_refused<DLManagedTensorVersioned>(row);
  if (row.legacy) check_refused<DLManagedTensor>(row);
}

BOOST_DATA_TEST_CASE(accepts_and_releases_once, data::make(odd_structs()), row) {
  check_accepted<DLManagedTensorVersioned>(row);
  if (row.legacy) check_accepted<DLManagedTensor>(row);
}

BOOST_AUTO_TEST_CASE(another_major_version_is_released_unread) {
  // From `flags` on the struct lies in memory that faults.
  const GuardedPage page;
  auto* const managed =
      reinterpret_cast<DLManagedTensorVersioned*>(page.forbidden() - offsetof(DLManagedTensorVersioned, flags));
  int releases = 0;
  managed->version = {2, 7};
  managed->manager_ctx = &releases;
  managed->deleter = [](DLManagedTensorVersioned* self) { ++*static_cast<int*>(self->manager_ctx); };
  try {
    static_cast<void>(from_dlpack(managed));
    BOOST_FAIL("accepted");
  } catch (const Error& error) {
    BOOST_TEST(to_string(error.reason()) == "version");
    BOOST_TEST(error.message() == "the DLPack version is 2.7, and only major version 1 is understood");
  }
  BOOST_TEST(releases == 1);

  managed->deleter = nullptr;
  BOOST_CHECK_THROW(static_cast<void>(from_dlpack(managed)), Error);
}

BOOST_AUTO_TEST_CASE(no_struct_at_all) {
  BOOST_CHECK_THROW(static_cast<void>(from_dlpack(static_cast<DLManagedTensorVersioned*>(nullptr))),
                    std::invalid_argument);
  BOOST_CHECK_THROW(static_cast<void>(from_dlpack(static_cast<DLManagedTensor*>(nullptr))), std::invalid_argument);
}

struct Said {
  const char* text;
  void (*build)(const Parts&);
  friend std::ostream& operator<<(std::ostream& out, const Said& said) { return out << said.text; }
};

const std::vector<Said>& messages() {
  static const std::vector<Said> rows{
      {"ndim is -1, less than 0", [](const Parts& p) { p.tensor.ndim = -1; }},
      {"ndim is 65, at most 64", [](const Parts& p) { p.tensor.ndim = 65; }},
      {"shape is NULL, but ndim is 2", [](const Parts& p) { p.tensor.shape = nullptr; }},
      {"shape (2, -5) has a negative dimension", [](const Parts& p) { p.shape[1] = -5; }},
      {"shape (4294967296, 4294967296) has more elements than int64 can count",
       [](const Parts& p) {
         p.set({4294967296, 4294967296}, {0, 0});
       }},
      {"shape (2,) with strides (4611686018427387904,) and dtype code 2 with 32 bits and 1 lane reaches further than "
       "int64 can count bytes",
       [](const Parts& p) { p.set({2}, {4611686018427387904}); }},
      {"data 0xfffffffffffffff0 and byte_offset 8, shape (3,) with strides (1,), leave the address space",
       [](const Parts& p) {
         p.set({3}, {1});
         p.tensor.data = at_address(uint64_max - 15);
         p.tensor.byte_offset = 8;
       }},
      {"data is NULL, but shape (2, 3) has elements", [](const Parts& p) { p.tensor.data = nullptr; }},
      {"dtype code 2 with 0 bits and 1 lane has no size", [](const Parts& p) { p.tensor.dtype.bits = 0; }},
      {"dtype code 2 with 32 bits and 0 lanes has no size", [](const Parts& p) { p.tensor.dtype.lanes = 0; }},
      {"dtype code 6 with 16 bits and 1 lane does not exist",
       [](const Parts& p) {
         p.tensor.dtype = {kDLBool, 16, 1};
       }},
      {"dtype code 200 with 12 bits and 1 lane does not fill whole bytes",
       [](const Parts& p) {
         p.tensor.dtype = {200, 12, 1};
       }},
      {"shape (2, 3) with strides (1, 2) of packed 4-bit elements is not row-major",
       [](const Parts& p) {
         p.tensor.dtype = {kDLInt, 4, 1};
         p.set({2, 3}, {1, 2});
       }},
  };
  return rows;
}

BOOST_DATA_TEST_CASE(says_what_was_wrong_with_values, data::make(messages()), said) {
  Versioned producer;
  said.build(parts(producer));
  const std::optional<Error> error = error_of(producer);
  BOOST_TEST_REQUIRE(error.has_value());
  BOOST_TEST(error->message() == said.text);
}

BOOST_AUTO_TEST_CASE(strides_that_do_not_matter_become_harmless) {
  struct Case {
    std::int64_t in;
    std::int64_t out;
  };
  for (const Case c : {Case{5, 5}, Case{0, 0}, Case{-5, 1}, Case{int64_min, 1}, Case{int64_max, 1},
                       Case{int64_max / 4, int64_max / 4}, Case{int64_max / 4 + 1, 1}}) {
    Versioned producer;
    producer.set({1, 3}, {c.in, 1});
    BOOST_TEST(from_dlpack(&producer.managed).view().strides[0] == c.out);
  }
}

BOOST_AUTO_TEST_CASE(the_copied_flag_is_not_passed_on) {
  Versioned producer;
  producer.managed.flags = DLPACK_FLAG_BITMASK_IS_COPIED | DLPACK_FLAG_BITMASK_READ_ONLY;
  DLManagedTensorVersioned* const out = from_dlpack(&producer.managed).to_dlpack();
  BOOST_TEST(out->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
  out->deleter(out);
}

BOOST_AUTO_TEST_CASE(out_of_memory_releases_once) {
  check_out_of_memory<DLManagedTensorVersioned>();
  check_out_of_memory<DLManagedTensor>();
}

BOOST_AUTO_TEST_CASE(an_exchange_is_one_allocation) {
  Versioned producer;
  const std::int64_t before = total_allocations;
  Tensor tensor = from_dlpack(&producer.managed);
  const std::int64_t imported = total_allocations;
  DLManagedTensorVersioned* const out = std::move(tensor).to_dlpack();
  const std::int64_t exported = total_allocations;
  out->deleter(out);
  BOOST_TEST(imported - before == 1);
  BOOST_TEST(exported - imported == 0);
  BOOST_TEST(producer.releases == 1);
}

BOOST_AUTO_TEST_CASE(the_metadata_is_a_copy) {
  Versioned producer;
  const Tensor tensor = from_dlpack(&producer.managed);
  producer.shape.assign(2, -1);
  producer.strides.assign(2, -1);
  BOOST_TEST(tensor.view().shape[0] == 2);
  BOOST_TEST(tensor.view().strides[0] == 3);
}

BOOST_AUTO_TEST_CASE(released_on_the_thread_that_lets_go) {
  static std::thread::id releaser;
  Versioned producer;
  producer.managed.deleter = [](DLManagedTensorVersioned* self) {
    releaser = std::this_thread::get_id();
    static_cast<Versioned*>(self->manager_ctx)->releases.fetch_add(1);
  };
  Tensor tensor = from_dlpack(&producer.managed);
  std::thread::id other;
  std::thread([&other, moved = std::move(tensor)]() mutable {
    other = std::this_thread::get_id();
    moved.reset();
  }).join();
  BOOST_TEST(producer.releases == 1);
  BOOST_TEST((releaser == other));
}

BOOST_AUTO_TEST_CASE(a_struct_of_ours_comes_back) {
  Versioned producer;
  Tensor tensor = from_dlpack(&producer.managed);
  for (int i = 0; i < 5; ++i) {
    if (i % 2 == 0) {
      tensor = from_dlpack(std::move(tensor).to_dlpack());
    } else {
      tensor = from_dlpack(std::move(tensor).to_dlpack_legacy());
    }
    BOOST_TEST(tensor.view().data == producer.tensor().data);
    BOOST_TEST(producer.releases == 0);
  }
  tensor.reset();
  BOOST_TEST(producer.releases == 1);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
