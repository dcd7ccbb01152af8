// A program of somebody else: it sees the installed public headers and the library, nothing more.
#include <halfway/halfway.h>
#if defined(HALFWAY_CONSUMER_CUDA)
#include <halfway/cuda/transfer.h>
#endif

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>

int main() {
  const std::array<float, 4> values{1.0F, 1.00390625F, -2.5F, 3.14159274F};
  const std::array<std::int64_t, 2> shape{2, 2};
  const std::array<std::int64_t, 2> strides{1, 2};  // columns first
  halfway::TensorView view;
  view.data = values.data();
  view.dtype = halfway::float32;
  view.shape = shape;
  view.strides = strides;

  halfway::Report report;
  const halfway::Tensor half = halfway::cast(view, halfway::bfloat16, {.report = &report});

  // Row-major: 1, -2.5, then the tie 1 + 2^-8 (to even: 1), then pi.
  const std::array<std::uint16_t, 4> expected{0x3F80, 0xC020, 0x3F80, 0x4049};
  if (std::memcmp(half.view().data, expected.data(), sizeof(expected)) != 0 || report.inexact != 2) {
    std::puts("wrong values");
    return 1;
  }

#if defined(HALFWAY_CONSUMER_CUDA)
  // There is a device, or words about why there is none.
  if (halfway::cuda::unavailable_because().empty() != (halfway::cuda::device_count() > 0)) {
    std::puts("no word about the device");
    return 1;
  }
#endif

  // Exceptions cross the library's boundary with their type.
  try {
    (void)halfway::cast(view, halfway::int8, {.casting = halfway::Casting::safe});
    std::puts("no error");
    return 1;
  } catch (const halfway::CastError& error) {
    return error.report().has_value() ? 1 : 0;
  }
}
