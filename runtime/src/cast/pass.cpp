#include "pass.h"

#include <algorithm>
#include <cstring>

#include "environment.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

using convert::Flags;

// Elements of a block. All its buffers together stay within a first-level cache of 32 KiB for real numbers.
constexpr std::size_t block = 512;
constexpr std::size_t largest_element = 16;  // complex128

// Rows shorter than this are gathered into common blocks; longer ones are blocks of their own, read and written in
// place where their elements are contiguous.
constexpr std::int64_t short_row = 64;

constexpr bool is_complex(DType dtype) noexcept { return dtype.code == static_cast<std::uint8_t>(TypeCode::complex); }

// The stages of a block. Components are what one function call converts: two an element where a side is complex.
class Converter {
 public:
  Converter(const Nest& nest, const Elements& from, const Elements& to, bool saturate, Tally* tally) noexcept
      : from_(from),
        to_(to),
        in_(nest, nest.source_strides, nest.source),
        out_(nest, nest.destination_strides, nest.destination),
        writes_(nest.destination != nullptr),
        same_(from.dtype == to.dtype),
        saturate_(saturate),
        from_complex_(is_complex(from.dtype)),
        to_complex_(is_complex(to.dtype)),
        decoder_(*block_functions(from.dtype)),
        encoder_(*block_functions(to.dtype)),
        tally_(tally) {}

  [[nodiscard]] std::int64_t run() const noexcept { return in_.run(); }

  void step(std::size_t n) noexcept {
    const std::byte* const source = read(n);
    decoder_.decode(source, wide_, from_complex_ ? 2 * n : n);
    const std::byte* const values = match_components(n);

    const bool in_place = writes_ && !same_ && is_plain(to_, out_, n);
    std::byte* const encoded = in_place ? out_.get() : encoded_;
    encode(values, encoded, n);
    if (in_place) {
      out_.advance(static_cast<std::int64_t>(n));
    } else if (writes_) {
      write(same_ ? source : encoded, n);
    }
  }

 private:
  // Whether the next `n` elements can be used where they are.
  template <class Byte>
  static bool is_plain(const Elements& side, const Cursor<Byte>& cursor, std::size_t n) noexcept {
    return side.swap_unit == 1 && cursor.run() >= static_cast<std::int64_t>(n) &&
           (n == 1 || cursor.stride() == static_cast<std::int64_t>(side.size));
  }

  // The next `n` source elements, contiguous and in the machine's byte order.
  const std::byte* read(std::size_t n) noexcept {
    if (is_plain(from_, in_, n)) {
      const std::byte* const place = in_.get();
      in_.advance(static_cast<std::int64_t>(n));
      return place;
    }
    const auto size = static_cast<std::int64_t>(from_.size);
    const auto wanted = static_cast<std::int64_t>(n);
    for (std::int64_t done = 0; done < wanted;) {
      const std::int64_t some = std::min(wanted - done, in_.run());
      copy_run(in_.get(), in_.stride(), gathered_ + done * size, size, some, from_.size);
      in_.advance(some);
      done += some;
    }
    if (from_.swap_unit > 1) swap_run(gathered_, size, wanted, from_.size, from_.swap_unit);
    return gathered_;
  }

  // `n` contiguous elements in the machine's byte order to where they belong.
  void write(const std::byte* elements, std::size_t n) noexcept {
    const auto size = static_cast<std::int64_t>(to_.size);
    const auto wanted = static_cast<std::int64_t>(n);
    for (std::int64_t done = 0; done < wanted;) {
      const std::int64_t some = std::min(wanted - done, out_.run());
      std::byte* const place = out_.get();
      copy_run(elements + done * size, size, place, out_.stride(), some, to_.size);
      if (to_.swap_unit > 1) swap_run(place, out_.stride(), some, to_.size, to_.swap_unit);
      out_.advance(some);
      done += some;
    }
  }

  // The decoded block in the number of components that the target has. All-zero bits are 0 in every wide type.
  const std::byte* match_components(std::size_t n) noexcept {
    if (from_complex_ == to_complex_) return wide_;
    const std::size_t size = wide_size(decoder_.wide);
    const auto single = static_cast<std::int64_t>(size);
    const auto count = static_cast<std::int64_t>(n);
    if (to_complex_) {
      std::memset(parts_, 0, 2 * n * size);
      copy_run(wide_, single, parts_, 2 * single, count, size);
    } else {
      copy_run(wide_, 2 * single, parts_, single, count, size);
      copy_run(wide_ + size, 2 * single, imaginary(), single, count, size);
    }
    return parts_;
  }

  std::byte* imaginary() noexcept { return parts_ + block * wide_size(decoder_.wide); }

  void encode(const std::byte* values, std::byte* encoded, std::size_t n) noexcept {
    const auto wide = static_cast<std::size_t>(decoder_.wide);
    const std::size_t components = to_complex_ ? 2 * n : n;
    if (tally_ == nullptr) {
      encoder_.encode[wide](values, encoded, components, saturate_);
    } else {
      encoder_.encode_flagged[wide](values, encoded, flags_, components, saturate_);
    }
    if (from_complex_ && to_.dtype == boolean) {
      // x != 0 when either part is not 0.
      std::byte others[block];
      encoder_.encode[wide](imaginary(), others, n, saturate_);
      for (std::size_t i = 0; i < n; ++i) encoded[i] |= others[i];
    }
    if (tally_ != nullptr) {
      if (to_complex_) {
        for (std::size_t i = 0; i < n; ++i) flags_[i] = static_cast<Flags>(flags_[2 * i] | flags_[2 * i + 1]);
      } else if (from_complex_) {
        flag_dropped_imaginary(decoder_.wide, imaginary(), flags_, n);
      }
      tally_->add(flags_, n);
    }
  }

  const Elements& from_;
  const Elements& to_;
  Cursor<const std::byte> in_;
  Cursor<std::byte> out_;
  bool writes_;
  bool same_;
  bool saturate_;
  bool from_complex_;
  bool to_complex_;
  const BlockFunctions& decoder_;
  const BlockFunctions& encoder_;
  Tally* tally_;

  alignas(64) std::byte gathered_[block * largest_element];
  alignas(64) std::byte wide_[2 * block * sizeof(double)];
  alignas(64) std::byte parts_[2 * block * sizeof(double)];
  alignas(64) std::byte encoded_[block * largest_element];
  alignas(64) Flags flags_[2 * block];
};

}  // namespace

void Tally::add(const Flags* flags, std::size_t n) noexcept {
  report.count += n;
  Flags any = 0;
  for (std::size_t i = 0; i < n; ++i) any = static_cast<Flags>(any | flags[i]);
  if (any == 0) return;
  const auto count = [flags, n](Flags mask) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += (flags[i] & mask) != 0 ? 1U : 0U;
    return sum;
  };
  report.nan += count(convert::saw_nan);
  report.overflow += count(convert::overflow);
  report.underflow += count(convert::underflow);
  report.inexact += count(convert::inexact);
  if ((any & watched) == 0) return;
  losses += count(watched);
  if (first_loss < 0) {
    const Flags* const first = std::find_if(flags, flags + n, [this](Flags f) { return (f & watched) != 0; });
    first_loss = static_cast<std::int64_t>(report.count - n) + (first - flags);
  }
}

void copy_pass(const Nest& nest, std::size_t size, std::size_t swap_unit) noexcept {
  Cursor<const std::byte> in(nest, nest.source_strides, nest.source);
  Cursor<std::byte> out(nest, nest.destination_strides, nest.destination);
  // Swapped elements are turned round in place, piece by piece while they are in the cache.
  const std::int64_t most = swap_unit > 1 ? static_cast<std::int64_t>(block) : nest.count;
  for (std::int64_t left = nest.count; left > 0;) {
    const std::int64_t some = std::min(in.run(), most);
    copy_run(in.get(), in.stride(), out.get(), out.stride(), some, size);
    if (swap_unit > 1) swap_run(out.get(), out.stride(), some, size, swap_unit);
    in.advance(some);
    out.advance(some);
    left -= some;
  }
}

void convert_pass(const Nest& nest, const Elements& from, const Elements& to, bool saturate, Tally* tally) noexcept {
  const DefaultFloatEnvironment environment;
  Converter converter(nest, from, to, saturate, tally);
  for (std::int64_t left = nest.count; left > 0;) {
    std::int64_t n = std::min(left, static_cast<std::int64_t>(block));
    if (nest.shape[nest.ndim - 1] >= short_row) n = std::min(n, converter.run());
    converter.step(static_cast<std::size_t>(n));
    left -= n;
  }
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
