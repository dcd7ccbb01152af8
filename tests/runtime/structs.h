// The tables of wrong and of odd DLPack structs that every import must refuse and accept.
#pragma once

#include <dlpack/dlpack.h>

#include <array>
#include <cstdint>
#include <limits>
#include <ostream>
#include <vector>

#include "halfway/validate.h"
#include "producer.h"

namespace halfway_test {

using halfway::Defect;

inline constexpr std::int64_t int64_max = std::numeric_limits<std::int64_t>::max();
inline constexpr std::int64_t int64_min = std::numeric_limits<std::int64_t>::min();
inline constexpr std::uint64_t uint64_max = std::numeric_limits<std::uint64_t>::max();

// What a row may change of a struct, in either version.
struct Parts {
  DLTensor& tensor;
  std::vector<std::int64_t>& shape;
  std::vector<std::int64_t>& strides;
  std::uint64_t* flags;    // nullptr in a legacy struct
  DLPackVersion* version;  // likewise

  void set(std::vector<std::int64_t> new_shape, std::vector<std::int64_t> new_strides) const {
    shape = std::move(new_shape);
    strides = std::move(new_strides);
    tensor.ndim = static_cast<std::int32_t>(shape.size());
    tensor.shape = shape.data();
    tensor.strides = strides.data();
  }
};

template <class Managed>
Parts parts(Producer<Managed>& producer) {
  if constexpr (is_versioned<Managed>) {
    return {producer.tensor(), producer.shape, producer.strides, &producer.managed.flags, &producer.managed.version};
  } else {
    return {producer.tensor(), producer.shape, producer.strides, nullptr, nullptr};
  }
}

struct Row {
  const char* name;
  Defect defect;  // none in the table of accepted structs
  void (*build)(const Parts&);
  bool legacy = true;  // whether a legacy struct can be like this

  friend std::ostream& operator<<(std::ostream& out, const Row& row) { return out << row.name; }
};

inline std::int64_t* unreadable() { return reinterpret_cast<std::int64_t*>(forbidden()); }
inline void* at_address(std::uint64_t value) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(value)); }

inline constexpr std::uint64_t padded = DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED;

inline const std::vector<Row>& wrong_structs() {
  static const std::vector<Row> rows{
      {"major 0", Defect::version,
       [](const Parts& p) {
         *p.version = {0, 8};
       },
       false},
      {"major 2", Defect::version,
       [](const Parts& p) {
         *p.version = {2, 0};
       },
       false},
      {"major 2, all else wrong too", Defect::version,
       [](const Parts& p) {
         *p.version = {2, 0};
         p.tensor.ndim = -1;
         p.tensor.shape = unreadable();
       },
       false},
      {"ndim -1, shape unreadable", Defect::negative_ndim,
       [](const Parts& p) {
         p.tensor.ndim = -1;
         p.tensor.shape = unreadable();
         p.tensor.strides = unreadable();
       }},
      {"ndim INT32_MIN", Defect::negative_ndim,
       [](const Parts& p) { p.tensor.ndim = std::numeric_limits<std::int32_t>::min(); }},
      {"ndim 65, shape unreadable", Defect::too_many_dims,
       [](const Parts& p) {
         p.tensor.ndim = 65;
         p.tensor.shape = unreadable();
         p.tensor.strides = unreadable();
       }},
      {"ndim 65 of ones", Defect::too_many_dims,
       [](const Parts& p) { p.set(std::vector<std::int64_t>(65, 1), std::vector<std::int64_t>(65, 1)); }},
      {"ndim INT32_MAX", Defect::too_many_dims,
       [](const Parts& p) { p.tensor.ndim = std::numeric_limits<std::int32_t>::max(); }},
      {"NULL shape", Defect::null_shape, [](const Parts& p) { p.tensor.shape = nullptr; }},
      {"NULL shape, strides unreadable", Defect::null_shape,
       [](const Parts& p) {
         p.tensor.shape = nullptr;
         p.tensor.strides = unreadable();
       }},
      {"dimension -1", Defect::negative_dim, [](const Parts& p) { p.shape[1] = -1; }},
      {"dimension INT64_MIN", Defect::negative_dim, [](const Parts& p) { p.shape[0] = int64_min; }},
      {"negative beside a zero", Defect::negative_dim,
       [](const Parts& p) {
         p.set({0, -3}, {1, 1});
       }},
      {"two negatives whose product is positive", Defect::negative_dim,
       [](const Parts& p) {
         p.set({-2, -3}, {3, 1});
       }},
      {"negative beside an overflow, strides unreadable", Defect::negative_dim,
       [](const Parts& p) {
         p.set({int64_max, int64_max, -1}, {0, 0, 0});
         p.tensor.strides = unreadable();
       }},
      {"2^63 elements, strides unreadable", Defect::too_many_elements,
       [](const Parts& p) {
         p.set({std::int64_t{1} << 32, std::int64_t{1} << 31}, {0, 0});
         p.tensor.strides = unreadable();
       }},
      {"2^64 elements, which wrap to 0", Defect::too_many_elements,
       [](const Parts& p) {
         p.set({std::int64_t{1} << 32, std::int64_t{1} << 32}, {0, 0});
       }},
      {"2^64 + 1 elements, which wrap to 1", Defect::too_many_elements,
       [](const Parts& p) {
         p.set({274177, 67280421310721}, {0, 0});
       }},
      {"empty, but for the other dimensions", Defect::too_many_elements,
       [](const Parts& p) {
         p.set({std::int64_t{1} << 32, std::int64_t{1} << 32, 0}, {0, 0, 0});
       }},
      {"stride INT64_MIN", Defect::too_many_bytes, [](const Parts& p) { p.strides[0] = int64_min; }},
      {"stride INT64_MAX", Defect::too_many_bytes, [](const Parts& p) { p.strides[0] = int64_max; }},
      {"stride whose bytes wrap to 0", Defect::too_many_bytes,
       [](const Parts& p) { p.strides[0] = std::int64_t{1} << 62; }},
      {"two strides that fit alone", Defect::too_many_bytes,
       [](const Parts& p) {
         p.set({2, 2}, {std::int64_t{1} << 60, std::int64_t{1} << 60});
       }},
      {"two strides of different sign that fit alone", Defect::too_many_bytes,
       [](const Parts& p) {
         p.set({2, 2}, {std::int64_t{1} << 60, -(std::int64_t{1} << 60)});
       }},
      {"one byte too many", Defect::too_many_bytes,
       [](const Parts& p) {
         p.tensor.dtype = {kDLUInt, 8, 1};
         p.set({2}, {int64_max});
       }},
      {"NULL strides", Defect::too_many_bytes,
       [](const Parts& p) {
         p.set({std::int64_t{1} << 61}, {1});
         p.tensor.strides = nullptr;
       }},
      {"many lanes", Defect::too_many_bytes,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat, 64, 65535};
         p.set({2}, {std::int64_t{1} << 45});
       }},
      {"empty, whose row-major strides do not fit", Defect::too_many_bytes,
       [](const Parts& p) {
         p.set({0, std::int64_t{1} << 61}, {1, 1});
         p.tensor.strides = nullptr;
       }},
      {"data near the end", Defect::address_overflow,
       [](const Parts& p) { p.tensor.data = at_address(uint64_max - 22); }},
      {"byte_offset UINT64_MAX", Defect::address_overflow, [](const Parts& p) { p.tensor.byte_offset = uint64_max; }},
      {"byte_offset that wraps to a plausible address", Defect::address_overflow,
       [](const Parts& p) {
         p.tensor.data = at_address(std::uint64_t{1} << 63);
         p.tensor.byte_offset = (std::uint64_t{1} << 63) + 4096;
       }},
      {"reach beyond the end", Defect::address_overflow,
       [](const Parts& p) {
         p.tensor.data = at_address(std::uint64_t{1} << 63);
         p.set({2}, {(int64_max - 4) / 4});
         p.tensor.byte_offset = 64;
       }},
      {"reach below 0", Defect::address_overflow,
       [](const Parts& p) {
         p.tensor.data = at_address(4);
         p.set({3}, {-1});
       }},
      {"packed elements beyond the end", Defect::address_overflow,
       [](const Parts& p) {
         p.tensor.dtype = {kDLInt, 4, 1};
         p.tensor.data = at_address(uint64_max - 2);
       }},
      {"handle whose offset leaves it", Defect::address_overflow,
       [](const Parts& p) {
         p.tensor.device = {kDLMetal, 0};
         p.tensor.byte_offset = uint64_max - 8;
       }},
      {"NULL data", Defect::null_data, [](const Parts& p) { p.tensor.data = nullptr; }},
      {"NULL data with an offset", Defect::null_data,
       [](const Parts& p) {
         p.tensor.data = nullptr;
         p.tensor.byte_offset = 4096;
       }},
      {"NULL data of a 0-d tensor", Defect::null_data,
       [](const Parts& p) {
         p.set({}, {});
         p.tensor.data = nullptr;
       }},
      {"NULL data in CUDA", Defect::null_data,
       [](const Parts& p) {
         p.tensor.device = {kDLCUDA, 0};
         p.tensor.data = nullptr;
       }},
      {"0 bits", Defect::zero_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat, 0, 1};
       }},
      {"0 bits and 0 lanes", Defect::zero_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat, 0, 0};
       }},
      {"0 bits of an empty tensor", Defect::zero_bits,
       [](const Parts& p) {
         p.set({0}, {1});
         p.tensor.dtype = {kDLFloat, 0, 1};
       }},
      {"0 lanes", Defect::zero_lanes,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat, 32, 0};
       }},
      {"0 lanes of an unknown code", Defect::zero_lanes,
       [](const Parts& p) {
         p.tensor.dtype = {200, 32, 0};
       }},
      {"bool of 1 bit", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLBool, 1, 1};
       }},
      {"bool of 16 bits", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLBool, 16, 1};
       }},
      {"bfloat of 32 bits", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLBfloat, 32, 1};
       }},
      {"float8 of 16 bits", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat8_e4m3fn, 16, 1};
       }},
      {"float8 of 4 bits", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat8_e5m2, 4, 1};
       }},
      {"float6 of 8 bits", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat6_e2m3fn, 8, 1};
       }},
      {"float4 of 8 bits", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat4_e2m1fn, 8, 1};
       }},
      {"float of 24 bits", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat, 24, 1};
       }},
      {"float of 24 bits, 4 lanes", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat, 24, 4};
       }},
      {"complex of 16 bits", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLComplex, 16, 1};
       }},
      {"bool of 1 bit, padded", Defect::impossible_bits,
       [](const Parts& p) {
         p.tensor.dtype = {kDLBool, 1, 1};
         *p.flags = padded;
       },
       false},
      {"unknown code of 12 bits", Defect::partial_bytes,
       [](const Parts& p) {
         p.tensor.dtype = {200, 12, 1};
       }},
      {"unknown code of 4 bits", Defect::partial_bytes,
       [](const Parts& p) {
         p.tensor.dtype = {200, 4, 1};
       }},
      {"opaque handle of 4 bits", Defect::partial_bytes,
       [](const Parts& p) {
         p.tensor.dtype = {kDLOpaqueHandle, 4, 1};
       }},
      {"int4 in 3 lanes", Defect::partial_bytes,
       [](const Parts& p) {
         p.tensor.dtype = {kDLInt, 4, 3};
       }},
      {"float6 in 2 lanes", Defect::partial_bytes,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat6_e3m2fn, 6, 2};
       }},
      {"float4 in 2 padded lanes", Defect::partial_bytes,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat4_e2m1fn, 4, 2};
         *p.flags = padded;
       },
       false},
      {"packed int4, transposed", Defect::sub_byte_strides,
       [](const Parts& p) {
         p.tensor.dtype = {kDLInt, 4, 1};
         p.set({2, 3}, {1, 2});
       }},
      {"packed int4, broadcast", Defect::sub_byte_strides,
       [](const Parts& p) {
         p.tensor.dtype = {kDLInt, 4, 1};
         p.set({2, 3}, {0, 1});
       }},
      {"packed float6 with gaps", Defect::sub_byte_strides,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat6_e2m3fn, 6, 1};
         p.set({3}, {2});
       }},
  };
  return rows;
}

inline const std::vector<Row>& odd_structs() {
  static const std::vector<Row> rows{
      {"the plain one", Defect::none, [](const Parts&) {}},
      {"minor 99", Defect::none,
       [](const Parts& p) {
         *p.version = {1, 99};
       },
       false},
      {"0-d, NULL shape and strides", Defect::none,
       [](const Parts& p) {
         p.set({}, {});
         p.tensor.shape = nullptr;
         p.tensor.strides = nullptr;
       }},
      {"64 dimensions", Defect::none,
       [](const Parts& p) { p.set(std::vector<std::int64_t>(64, 1), std::vector<std::int64_t>(64, 1)); }},
      {"NULL strides", Defect::none, [](const Parts& p) { p.tensor.strides = nullptr; }},
      {"stride INT64_MIN in a dimension of 1", Defect::none,
       [](const Parts& p) {
         p.set({1, 3}, {int64_min, 1});
       }},
      {"stride INT64_MAX in a dimension of 1", Defect::none,
       [](const Parts& p) {
         p.set({3, 1}, {1, int64_max});
       }},
      {"stride -7 in a dimension of 1", Defect::none,
       [](const Parts& p) {
         p.set({3, 1}, {1, -7});
       }},
      {"negative strides", Defect::none,
       [](const Parts& p) {
         p.tensor.data = at_address(20);
         p.set({2, 3}, {-3, -1});
       }},
      {"broadcast to more bytes than there are", Defect::none,
       [](const Parts& p) { p.set({std::int64_t{1} << 62}, {0}); }},
      {"transposed", Defect::none,
       [](const Parts& p) {
         p.set({2, 3}, {1, 2});
       }},
      {"empty, NULL data", Defect::none,
       [](const Parts& p) {
         p.set({2, 0}, {1, 1});
         p.tensor.data = nullptr;
       }},
      {"empty, anything else", Defect::none,
       [](const Parts& p) {
         p.set({0, 3}, {int64_min, int64_max});
         p.tensor.data = at_address(uint64_max);
         p.tensor.byte_offset = uint64_max;
       }},
      {"byte_offset", Defect::none, [](const Parts& p) { p.tensor.byte_offset = 4096; }},
      {"to the last byte of the address space", Defect::none,
       [](const Parts& p) { p.tensor.data = at_address(uint64_max - 24); }},
      {"the largest reach", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {kDLUInt, 8, 1};
         p.set({2}, {int64_max - 1});
         p.tensor.data = at_address(16);
       }},
      {"misaligned data", Defect::none, [](const Parts& p) { p.tensor.data = forbidden() + 1; }},
      {"unknown code of 16 bits", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {200, 16, 1};
       }},
      {"unknown code of 12 bits in 2 lanes", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {200, 12, 2};
       }},
      {"opaque handle", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {kDLOpaqueHandle, 64, 1};
       }},
      {"4 lanes", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat, 32, 4};
       }},
      {"float4 in 2 lanes", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {kDLFloat4_e2m1fn, 4, 2};
       }},
      {"packed int4", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {kDLInt, 4, 1};
       }},
      {"packed int4, odd strides in dimensions of 1", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {kDLInt, 4, 1};
         p.set({1, 3, 1}, {77, 1, -5});
       }},
      {"packed int4, empty, any strides", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {kDLInt, 4, 1};
         p.set({0, 3}, {7, 7});
       }},
      {"packed int4 of more elements than bytes there are", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {kDLInt, 4, 1};
         p.tensor.data = at_address(std::uint64_t{1} << 63);
         p.set({int64_max}, {1});
       }},
      {"padded int4, transposed", Defect::none,
       [](const Parts& p) {
         p.tensor.dtype = {kDLInt, 4, 1};
         p.set({2, 3}, {1, 2});
         *p.flags = padded;
       },
       false},
      {"PADDED on a float32", Defect::none, [](const Parts& p) { *p.flags = padded; }, false},
      {"read-only", Defect::none, [](const Parts& p) { *p.flags = DLPACK_FLAG_BITMASK_READ_ONLY; }, false},
      {"unknown flags", Defect::none, [](const Parts& p) { *p.flags = ~std::uint64_t{7}; }, false},
      {"device id of the CPU", Defect::none,
       [](const Parts& p) {
         p.tensor.device = {kDLCPU, 7};
       }},
      {"CUDA", Defect::none,
       [](const Parts& p) {
         p.tensor.device = {kDLCUDA, 3};
       }},
      {"a handle with an offset", Defect::none,
       [](const Parts& p) {
         p.tensor.device = {kDLMetal, 1};
         p.tensor.byte_offset = 24;
       }},
      {"a NULL handle with negative strides", Defect::none,
       [](const Parts& p) {
         p.tensor.device = {kDLWebGPU, 0};
         p.tensor.data = nullptr;
         p.set({3}, {-1});
       }},
      {"unknown device", Defect::none,
       [](const Parts& p) {
         p.tensor.device = {static_cast<DLDeviceType>(12345), -1};
       }},
  };
  return rows;
}

}  // namespace halfway_test
