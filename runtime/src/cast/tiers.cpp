#include "tiers.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "halfway/convert.h"
#include "halfway/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace halfway {
inline namespace v0 {
namespace detail {

extern const Kernels kernels_baseline;
#if defined(HALFWAY_X86_64_TIERS)
extern const Kernels kernels_x86_64_v2;
extern const Kernels kernels_x86_64_v3;
extern const Kernels kernels_x86_64_v4;
#endif

namespace {

#if defined(HALFWAY_X86_64_TIERS)

// The feature bits of CPUID (Intel's manual, volume 2, CPUID) that the levels of the x86-64 ABI ask for.
struct Features {
  std::uint32_t leaf1_ecx = 0;
  std::uint32_t leaf7_ebx = 0;
  std::uint32_t extended1_ecx = 0;
  std::uint64_t saved_state = 0;  // XCR0: what the operating system saves at a context switch

  [[nodiscard]] bool have(const Features& wanted) const noexcept {
    return (leaf1_ecx & wanted.leaf1_ecx) == wanted.leaf1_ecx && (leaf7_ebx & wanted.leaf7_ebx) == wanted.leaf7_ebx &&
           (extended1_ecx & wanted.extended1_ecx) == wanted.extended1_ecx &&
           (saved_state & wanted.saved_state) == wanted.saved_state;
  }
};

Features features_of_this_processor() noexcept {
  Features found;
  std::uint32_t eax = 0;
  std::uint32_t ebx = 0;
  std::uint32_t ecx = 0;
  std::uint32_t edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0) found.leaf1_ecx = ecx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) found.leaf7_ebx = ebx;
  if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) != 0) found.extended1_ecx = ecx;
  constexpr std::uint32_t osxsave = 1U << 27U;
  if ((found.leaf1_ecx & osxsave) != 0) {
    __asm__ __volatile__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    found.saved_state = (std::uint64_t{edx} << 32U) | eax;
  }
  return found;
}

// Levels 2, 3 and 4 of the x86-64 psABI; each has all of the one before.
constexpr std::uint32_t sse3_to_popcnt = 1U << 0U | 1U << 9U | 1U << 13U | 1U << 19U | 1U << 20U | 1U << 23U;
constexpr std::uint32_t avx_group = 1U << 12U | 1U << 22U | 1U << 27U | 1U << 28U | 1U << 29U;  // FMA .. F16C
constexpr std::uint32_t avx2_group = 1U << 3U | 1U << 5U | 1U << 8U;                            // BMI1, AVX2, BMI2
constexpr std::uint32_t avx512_group = 1U << 16U | 1U << 17U | 1U << 28U | 1U << 30U | 1U << 31U;
constexpr std::uint32_t lahf = 1U << 0U;
constexpr std::uint32_t lzcnt = 1U << 5U;
constexpr std::uint64_t ymm_state = 0x6;
constexpr std::uint64_t zmm_state = 0xE6;

struct Tier {
  const Kernels* kernels;
  Features needs;
};
constexpr std::array tiers{
    Tier{&kernels_baseline, {}},
    Tier{&kernels_x86_64_v2, {sse3_to_popcnt, 0, lahf, 0}},
    Tier{&kernels_x86_64_v3, {sse3_to_popcnt | avx_group, avx2_group, lahf | lzcnt, ymm_state}},
    Tier{&kernels_x86_64_v4, {sse3_to_popcnt | avx_group, avx2_group | avx512_group, lahf | lzcnt, zmm_state}},
};

#else

struct Features {
  [[nodiscard]] bool have(const Features& /*wanted*/) const noexcept { return true; }
};
Features features_of_this_processor() noexcept { return {}; }
struct Tier {
  const Kernels* kernels;
  Features needs;
};
constexpr std::array tiers{Tier{&kernels_baseline, {}}};

#endif

struct Available {
  std::array<std::string_view, tiers.size()> names{};
  std::size_t count = 0;

  Available() noexcept {
    const Features features = features_of_this_processor();
    for (const Tier& tier : tiers) {
      if (!features.have(tier.needs)) break;
      names[count++] = tier.kernels->name;
    }
  }
};

const Available& available() noexcept {
  static const Available found;
  return found;
}

const Kernels* kernels_named(std::string_view name) noexcept {
  for (std::size_t i = 0; i < available().count; ++i) {
    if (tiers[i].kernels->name == name) return tiers[i].kernels;
  }
  return nullptr;
}

constinit std::atomic<const Kernels*> active{nullptr};

// The newest tier, or the one that the environment asks for; nullptr when it asks for one that is not there.
const Kernels* choose() noexcept {
  const char* const wanted = std::getenv("HALFWAY_TIER");  // NOLINT(concurrency-mt-unsafe): nothing here changes it
  if (wanted == nullptr || *wanted == '\0') return tiers[available().count - 1].kernels;
  return kernels_named(wanted);
}

// (code, bytes) -> row, sizes being powers of two up to 8. The order of rows is that of convert::Elements in all tiers.
constexpr std::size_t code_count = 18;
constexpr std::size_t size_count = 9;
constexpr std::uint8_t no_row = 0xFF;

template <class... E>
constexpr auto rows_of(convert::List<E...> /*elements*/) noexcept {
  std::array<std::uint8_t, code_count * size_count> rows{};
  rows.fill(no_row);
  std::uint8_t next = 0;
  ((rows[E::dtype.code * size_count + E::dtype.bits / 8] = next++), ...);
  return rows;
}
constexpr auto row_of = rows_of(convert::Elements{});

[[noreturn]] void refuse_tier() {
  const char* const wanted = std::getenv("HALFWAY_TIER");  // NOLINT(concurrency-mt-unsafe)
  std::string names;
  for (const std::string_view name : available_tiers()) {
    if (!names.empty()) names += ", ";
    names += name;
  }
  throw Error(Reason::unavailable,
              "HALFWAY_TIER=" + std::string(wanted != nullptr ? wanted : "") + " is not a tier of this processor",
              "unset it, or choose one of " + names);
}

}  // namespace

const DTypeKernels* Kernels::find(DType dtype) const noexcept {
  if (dtype.lanes != 1) return nullptr;
  if (dtype.code == static_cast<std::uint8_t>(TypeCode::complex)) {
    dtype = DType(TypeCode::float_, dtype.bits / 2);
  }
  const std::size_t bytes = dtype.bits / 8;
  if (dtype.code >= code_count || dtype.bits % 8 != 0 || bytes >= size_count) return nullptr;
  const std::uint8_t row = row_of[dtype.code * size_count + bytes];
  return row == no_row ? nullptr : &dtypes[row];
}

const FusedLoop* Kernels::find_fused(DType from, DType to) const noexcept {
  for (const FusedLoop& loop : fused) {
    if (loop.from == from && loop.to == to) return &loop;
  }
  return nullptr;
}

std::span<const std::string_view> available_tiers() noexcept { return {available().names.data(), available().count}; }

std::string_view active_tier() noexcept {
  const Kernels* const kernels = active.load(std::memory_order_acquire);
  if (kernels != nullptr) return kernels->name;
  const Kernels* const chosen = choose();
  return chosen != nullptr ? chosen->name : std::string_view{};
}

const Kernels& active_kernels() {
  const Kernels* kernels = active.load(std::memory_order_acquire);
  if (kernels == nullptr) {
    kernels = choose();
    if (kernels == nullptr) refuse_tier();
    active.store(kernels, std::memory_order_release);
  }
  return *kernels;
}

bool set_active_tier(std::string_view name) noexcept {
  const Kernels* const kernels = name.empty() ? nullptr : kernels_named(name);
  if (kernels == nullptr && !name.empty()) return false;
  active.store(kernels, std::memory_order_release);
  return true;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
