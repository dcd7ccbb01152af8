// What an exchange will do, and why: a pure function of the source, the wish and the target's abilities. Below it, the
// same for transfers between the host and a device, of the machine's constants too.
//
// The executor runs the plan it is given, so that what was explained is what happens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "halfway/cast.h"
#include "halfway/dtype.h"
#include "halfway/error.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {

// Properties of a source that its view cannot carry.
struct SourceTraits {
  bool requires_grad = false;  // the consumer must not alias it (the producer's automatic differentiation)
  bool conj = false;           // conjugate bit: the memory holds the conjugates
  bool neg = false;            // negative bit: the memory holds the negatives
};

// What the target library can express. Rows for NumPy, torch and DLPack stand in the bindings.
struct Target {
  std::string_view name;               // "numpy", "torch", "halfway"
  bool (*has_dtype)(DType) = nullptr;  // nullptr: every dtype
  bool negative_strides = true;
  bool fractional_strides = false;
  bool readonly = true;
  bool misaligned = true;
  bool swapped = false;  // can express the other byte order
  int max_ndim = halfway::max_ndim;
  std::string_view title{};  // as messages spell it; empty: the name
};

enum class Copy : std::uint8_t { if_needed, never, always };

struct Wish {
  Target target;
  std::optional<DType> dtype;  // none: the source's
  Copy copy = Copy::if_needed;
  bool allow_readonly = false;
  bool into_out = false;  // the result is written into memory that is already there
  CastOptions options{};
  // Where the result is to be. None: in the source's memory or the host's, and the source has to be in the host's.
  std::optional<Device> device{};
};

enum class StepKind : std::uint8_t {
  alias,    // hand out the source's memory
  resolve,  // the producer materialises conj / neg / detached values
  copy,     // same values, fresh or given memory
  cast,     // another dtype or other values, fresh or given memory
  ship,     // over the bus between the host and a device
};

[[nodiscard]] std::string_view to_string(StepKind kind) noexcept;

struct Step {
  StepKind kind = StepKind::alias;
  DType from{};
  DType to{};
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::string how{};  // what else happens in it, e.g. "permute (0, 3, 1, 2), affine along axis 3"; mostly nothing
};

struct Plan {
  bool zero_copy = true;
  std::vector<Reason> reasons;  // why not zero-copy; empty when it is
  std::vector<Step> steps;
  DType from{};
  DType to{};
  std::vector<std::int64_t> shape;         // of the source
  std::vector<std::int64_t> result_shape;  // permuted, if the axes are
  std::string_view target;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t bytes_wire = 0;  // over a bus to another device
  Device device{};               // of the result
  // Of plans that need a device:
  std::string because{};      // why it is done on this side of the wire, with the figures that decided
  std::string machine{};      // where those figures come from
  std::string unavailable{};  // why it cannot be done here; empty: it can
};

// Never touches the source's data. What a device takes part in, but for handing memory out, is left to the plan of the
// transfer, or of the cast on the device (`add_transfer`).
// throws: Error (every reason, in the order of the enumeration) when Copy::never and the source cannot be aliased;
//         Error(unsupported_dtype) when the target has no such dtype; Error(device) for memory the host cannot address,
//         where the wish does not say a device;
//         CastError when the level forbids the cast; what cast() says of options that do not fit the source or the
//         dtypes
[[nodiscard]] Plan plan(const TensorView& source, const SourceTraits& traits, const Wish& wish);

// Several lines for people, e.g.
//   float64 (64, 3) -> torch bfloat16: one pass
//     because   dtype
//     cast      float64 -> bfloat16, reads 1536 B, writes 384 B
[[nodiscard]] std::string to_string(const Plan& plan);

// "cpu", "cuda:0", "cuda_host", "cuda_managed:0"; other devices by their numbers in DLPack, "8:0".
[[nodiscard]] std::string to_string(Device device);

// --- transfers between the host and a device, and casts on one device
//
// The rule is made of bytes: what is narrowed is narrowed before the wire, what is widened is widened behind it.
// Pageable memory passes through pinned slots in any case, and is cast on the way into them (or out of them) for the
// price of the copy. Pinned memory is read where it lies, so that there casting on the host is worth its while only
// where the cores are faster than the wire. Elements of a tensor in device memory that is not row-major are brought
// into order (or to their places) by a kernel on the device, whatever else happens to them.

enum class Direction : std::uint8_t { to_device, to_host, on_device };

// How the device can reach the host's side of a transfer.
enum class HostMemory : std::uint8_t {
  pageable,  // not at all
  pinned,    // page-locked: by its copy engines, and mapped by its kernels
  coherent,  // pageable, through the host's page tables (Grace Hopper): by its kernels
};

[[nodiscard]] std::string_view to_string(HostMemory memory) noexcept;

// What a plan of a transfer is computed from. Bytes a second, everything. The values here are assumed, not measured: a
// server with PCIe 5 x16 and the efficiencies that its vendor and users report. `small`, `small_pinned` and `chunk`
// have an experiment each (`make gpu-tune`: sizes from 1 KiB to 16 MiB by the host, by a kernel and by copy engine;
// chunk size over slots of the ring), and so have mapped reads against shipping and the number of cores that cast.
//
// `small` and `small_pinned` come from transfers of pinned float32 as bfloat16 (H100, PCIe 5 x16, virtual machine of 16
// cores, 2026-11-26). Of 16 KiB the host's cast and a kernel that reads the source take the same; of 64 KiB 42.4 us and
// 38.3: `small` lies between the two. Of 4 MiB a kernel takes 171.8 us, shipping and casting 239.1. Of 16 MiB, where
// nobody waits, a kernel takes 362 (float16: 367) and the host's cast of pageable memory 346 (384): `small_pinned` lies
// there. Of float64 and int64 as 16 bits, where a quarter crosses, a kernel takes 405 to 411 and the host 216 to 234:
// where the host casts faster than the wire takes the source, the bound is a quarter of it for these, which is assumed.
// That kernels read up to as many bytes out of slots, which are pinned memory too, is not measured by itself (an
// experiment is there). The rest is not measured.
struct Machine {
  double wire_to_device = 50e9;  // by a copy engine from pinned memory: 63e9 less the protocol's share
  double wire_to_host = 50e9;
  double mapped_read = 0.64;   // what kernels reach of it when they read the host's memory; reported
  double mapped_write = 0.96;  // and when they write it; reported
  double host_cast = 8e9;      // source bytes that one core casts: half of the 16e9 a core was measured to cast alone
  double host_memory = 100e9;  // source bytes that all cores together cast out of memory, far beyond their caches
  int cores = 1;               // that a cast may use: num_threads()
  // To the device: up to so many bytes on either side the host copies or casts into a slot, and one copy crosses,
  // whatever memory the source is in, so that nobody asks.
  std::uint64_t small = std::uint64_t{32} << 10;
  // Where a kernel has work to do, it reads up to so many bytes over the wire: of a pinned source, in one launch, or of
  // the slots through which a transfer passes, each as soon as it is full.
  std::uint64_t small_pinned = std::uint64_t{16} << 20;
  // Bytes of a pinned slot: the most that crosses at a time. Transfers of less than eight of them have chunks of an
  // eighth, of 512 KiB at least, so that the host's pass and the wire overlap in them too.
  std::uint64_t chunk = std::uint64_t{1} << 23;
  // Bytes that the first chunk through slots has at least: it is an eighth of the others, a quarter or a half; the
  // second has as many, and each of the next twice as many as the one before it. Assumed; of transfers of 16 MiB whose
  // chunks were all alike, 2 MiB, the device had nothing to do for the first 0.2 ms (H100, 2026-11-26).
  std::uint64_t first_chunk = std::uint64_t{256} << 10;
  bool assumed = true;
  std::string measured{};  // when, where they are not assumed: an ISO 8601 date
};

struct TransferWish {
  Direction direction = Direction::to_device;
  DType to{};
  CastOptions options{};
  HostMemory host = HostMemory::pageable;    // of the host's side
  const MutableView* destination = nullptr;  // memory that is there, whose layout matters; none: fresh, row-major
  // to_host: nobody waits, so that no slot can be emptied. Everything that crosses gets pinned memory of its own.
  bool deferred = false;
};

// The ways there are. Those of to_host are the same, the other way round.
enum class Route : std::uint8_t {
  nothing,      // no elements
  direct,       // a copy engine between pinned memory and the tensor: the same dtype
  host_cast,    // the host casts into slots, a copy engine ships them (to_host: it ships, the host casts out of them)
  device_cast,  // a copy engine ships, a kernel casts: from slots or, where the source is pinned, from it
  mapped,       // a kernel reads or writes the host's memory itself, and casts: slots, pinned or coherent memory
  on_device,    // a kernel casts from device memory into device memory: nothing crosses
};

[[nodiscard]] std::string_view to_string(Route route) noexcept;

// The most numbers along an axis that a scale or shift on the device may have: they travel with the launch.
inline constexpr std::size_t max_device_coefficients = 32;

// Whether kernels convert this pair: every pair of castable dtypes.
[[nodiscard]] bool is_device_castable(DType from, DType to) noexcept;

struct TransferPlan {
  Direction direction = Direction::to_device;
  Route route = Route::nothing;
  DType from{};
  DType wire{};  // of what crosses
  DType to{};
  // The host casts all of it in a pass of its own, before the transfer (to_host: after it), since only all of it can
  // be checked.
  bool whole = false;
  bool staged = false;        // the host copies or casts through pinned slots
  bool copy_engine = false;   // else a kernel reaches over the wire
  bool kernel = false;        // on the device, casting or copying
  bool device_casts = false;  // the cast is the kernel's, with all of its options; else the host's, if there is one
  // The kernel counts, for a report or a check: the call waits for it. What it counted are a few bytes more on the
  // wire, in copies of their own: `bytes_wire` and `copies` are about elements.
  bool counts = false;
  bool strided = false;        // the device's side is not row-major: the kernel gathers or scatters its elements
  bool flat = true;            // the host's side is cut as one row; else along its axes (`Slices`)
  std::uint64_t elements = 0;  // bytes, where nothing is cast and elements are no whole bytes
  // The most elements of a part, and parts of a whole chunk, which are what crosses at a time. The first chunks are of
  // 1, 1, 2, 4 .. parts.
  std::uint64_t part = 0;
  std::uint64_t parts = 1;
  std::uint64_t chunks = 0;
  std::uint64_t copies = 0;    // by copy engines over the wire
  std::uint64_t launches = 0;  // of kernels
  std::uint64_t bytes_wire = 0;
  std::vector<Step> steps;
  std::string because;  // in words, with the figures that decided
};

// Never touches data. What host memory is, and the machine's constants, are the caller's to find out.
// throws: Error (unavailable: a tensor in device memory whose layout has more than 8 axes that do not continue one
//         another, or, on_device, what no kernel does; malformed; what cast() says of options);
//         CastError when the level forbids the cast
[[nodiscard]] TransferPlan plan_transfer(const TensorView& source, const TransferWish& wish, const Machine& machine);

// Several lines for people.
[[nodiscard]] std::string to_string(const TransferPlan& plan);

// The steps of an exchange in which a device takes part: those of its transfer, which was planned with the constants of
// `machine`. Requires: `plan` is of that exchange, without steps but one that resolves the source.
void add_transfer(Plan& plan, const TransferPlan& transfer, const Machine& machine);

}  // namespace v0
}  // namespace halfway
