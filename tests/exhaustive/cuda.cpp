// The library against the host conversions of the CUDA toolkit's headers: NVIDIA's own rounding, another author's code.
//
// Their semantics, where they are not ours word for word:
//   NaN          their encodings are not compared, only that both are NaN.
//   __NV_NOSAT   is overflow="default": beyond the range e5m2 becomes infinity, e4m3 (fn) NaN, infinities included.
//   __NV_SATFINITE  is overflow="saturate", infinities included. float16 and bfloat16 have no saturating function.
#include "sweep.h"

#if HALFWAY_HAS_CUDA_HEADERS

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <array>
#include <bit>
#include <cstring>
#include <numeric>

namespace sweep {
namespace {

struct Conversion {
  std::string_view name;
  halfway::DType to;
  bool saturate;
  std::uint16_t (*from_float)(float);
  std::uint16_t (*from_double)(double);
};

template <__nv_saturation_t saturation, __nv_fp8_interpretation_t format>
constexpr Conversion fp8(std::string_view name, halfway::DType to) {
  return {name, to, saturation == __NV_SATFINITE,
          [](float x) { return static_cast<std::uint16_t>(__nv_cvt_float_to_fp8(x, saturation, format)); },
          [](double x) { return static_cast<std::uint16_t>(__nv_cvt_double_to_fp8(x, saturation, format)); }};
}

const std::array<Conversion, 6> conversions{
    Conversion{"float16", halfway::float16, false, [](float x) { return __half_raw(__float2half_rn(x)).x; },
               [](double x) { return __half_raw(__double2half(x)).x; }},
    Conversion{"bfloat16", halfway::bfloat16, false,
               [](float x) { return __nv_bfloat16_raw(__float2bfloat16_rn(x)).x; },
               [](double x) { return __nv_bfloat16_raw(__double2bfloat16(x)).x; }},
    fp8<__NV_NOSAT, __NV_E4M3>("float8_e4m3fn", halfway::float8_e4m3fn),
    fp8<__NV_SATFINITE, __NV_E4M3>("float8_e4m3fn, saturate", halfway::float8_e4m3fn),
    fp8<__NV_NOSAT, __NV_E5M2>("float8_e5m2", halfway::float8_e5m2),
    fp8<__NV_SATFINITE, __NV_E5M2>("float8_e5m2, saturate", halfway::float8_e5m2),
};

bool is_nan(const Format& format, std::uint64_t pattern) {
  return oracle::unpack(format, pattern).kind == oracle::Number::Kind::nan;
}

template <class Float, class Bits>
void compare(const Conversion& conversion, const std::vector<Bits>& source, Checker& checker) {
  const Format& from = oracle::format(sizeof(Float) == 4 ? halfway::float32 : halfway::float64);
  const Format& to = oracle::format(conversion.to);
  const std::byte* const got = checker.cast(from, source.data(), source.size(), to.dtype, conversion.saturate, nullptr);
  checker.findings().add_checked(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    const auto value = std::bit_cast<Float>(source[i]);
    std::uint64_t wanted = 0;
    if constexpr (sizeof(Float) == 4) {
      wanted = conversion.from_float(value);
    } else {
      wanted = conversion.from_double(value);
    }
    const std::uint64_t pattern = pattern_at(to.bytes(), got, i);
    if (pattern == wanted || (is_nan(to, pattern) && is_nan(to, wanted))) continue;
    checker.findings().add_mismatches(1);
    checker.findings().describe(std::string(from.name) + " " + hexadecimal(source[i], sizeof(Bits)) + " to " +
                                std::string(conversion.name) + ": got " + hexadecimal(pattern, to.bytes()) +
                                ", wanted " + hexadecimal(wanted, to.bytes()) + " by the CUDA headers");
  }
}

void check_floats(std::uint64_t chunk, Checker& checker) {
  std::vector<std::uint32_t> source(std::size_t{1} << 18);
  std::iota(source.begin(), source.end(), static_cast<std::uint32_t>(chunk << 18));
  for (const Conversion& conversion : conversions) compare<float>(conversion, source, checker);
}

// Doubles around the values and midpoints of the target that chunk by chunk cover all of them.
void check_doubles(std::uint64_t chunk, Checker& checker) {
  std::vector<std::uint64_t> source;
  for (const Conversion& conversion : conversions) {
    const Format& to = oracle::format(conversion.to);
    const std::uint64_t codes = to.bits() == 8 ? 2 : 512;
    source.clear();
    for (std::uint64_t code = chunk * codes; code < (chunk + 1) * codes && code <= to.largest + 1; ++code) {
      append_doubles_around(to, code, 3, source);
    }
    if (!source.empty()) compare<double>(conversion, source, checker);
  }
}

}  // namespace

void add_cuda_sweeps(std::vector<Sweep>& sweeps) {
  sweeps.push_back({.name = "cuda-float32",
                    .chunks = std::uint64_t{1} << 14,
                    .run = [](std::uint64_t chunk, std::uint64_t, Checker& checker) { check_floats(chunk, checker); },
                    .in_turn = true});
  sweeps.push_back({.name = "cuda-float64",
                    .chunks = 64,
                    .run = [](std::uint64_t chunk, std::uint64_t, Checker& checker) { check_doubles(chunk, checker); },
                    .in_turn = true});
}

}  // namespace sweep

#else

namespace sweep {

void add_cuda_sweeps(std::vector<Sweep>& sweeps) {
  sweeps.push_back({.name = "cuda",
                    .once = true,
                    .skipped = "no cuda_fp8.h when this was configured: looked for in CUDA_PATH, CUDA_HOME, "
                               "/usr/local/cuda, the system's folders and Python's nvidia wheels; "
                               "HALFWAY_CUDA_HEADERS names another"});
}

}  // namespace sweep

#endif
