#include "dispatch.h"

#include <algorithm>
#include <array>
#include <optional>

#include "tiles.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

using halfway::detail::Places;

bool is_float(DType dtype) noexcept {
  return dtype.code != static_cast<std::uint8_t>(TypeCode::int_) &&
         dtype.code != static_cast<std::uint8_t>(TypeCode::uint) &&
         dtype.code != static_cast<std::uint8_t>(TypeCode::boolean);
}

// What elements.h says of W.
WideKind wide_type_of(const Conversion& work) noexcept {
  const bool scaled = work.affine.count != 0;
  const bool is_wide = work.from.bits >= 32 && !is_dtype(work.from, float32);
  if (is_float(work.to) && work.to.bits <= 16 && !scaled && !work.stochastic) return WideKind::single;
  if (is_float(work.from)) return is_wide ? WideKind::double_ : WideKind::single;
  const bool of_numbers = scaled || (is_float(work.to) && (work.to.bits < 64 || work.from.bits < 64));
  if (of_numbers) return is_wide ? WideKind::double_ : WideKind::single;
  return work.from.code == static_cast<std::uint8_t>(TypeCode::int_) ? WideKind::signed_ : WideKind::unsigned_;
}

std::uint64_t address_of(const void* place) noexcept { return reinterpret_cast<std::uintptr_t>(place); }

bool is_dense(const Places& places, std::uint64_t item_size, std::uint64_t count) noexcept {
  return count == 1 || (places.axes == 1 && places.strides[0] == static_cast<std::int64_t>(item_size));
}

// Of dense groups of so many bytes that begin at an address.
Access dense_access(std::uint64_t address, std::uint64_t size, std::uint64_t group_size) noexcept {
  if (address % std::min<std::uint64_t>(16, group_size) == 0) return Access::vectors;
  return address % size == 0 ? Access::scalars : Access::bytes;
}

Access strided_access(const void* base, const Places& places, std::uint64_t size) noexcept {
  std::uint64_t all = address_of(base);
  for (int axis = 0; axis < places.axes; ++axis) all |= static_cast<std::uint64_t>(places.strides[axis]);
  return all % size == 0 ? Access::scalars : Access::bytes;
}

// `most`: of any memory. `bytes`: of the host's memory that a thread asks for at a time. What has to be under way is
// shared by as many threads as it takes.
std::uint64_t most_blocks(Reach reach, std::uint64_t most, std::uint64_t bytes) noexcept {
  if (reach == Reach::device) return most;
  const std::uint64_t blocks =
      reach == Reach::reads_host ? tuning::most_blocks_reading_host : tuning::most_blocks_writing_host;
  constexpr std::uint64_t presumed = tuning::Fused::bytes;
  return std::min(most, bytes < presumed ? blocks * presumed / bytes : blocks);
}

// One side of a launch: where it begins, the bytes of an element, and those of the vectors that it is accessed in.
struct Vectors {
  std::uint64_t address;
  std::uint64_t size;
  std::uint64_t alignment;
};

// The elements before the first one from which on both sides are aligned; none where they never are.
std::optional<std::uint32_t> head_of(const Vectors& from, const Vectors& to) noexcept {
  const auto is_aligned = [](const Vectors& side, std::uint32_t head) {
    return (side.address + head * side.size) % side.alignment == 0;
  };
  for (std::uint32_t head = 0; head < 16; ++head) {
    if (is_aligned(from, head) && is_aligned(to, head)) return head;
  }
  return std::nullopt;
}

class Chooser {
 public:
  Chooser(const Conversion& work, const tuning::Numbers& numbers) noexcept : work_(work), numbers_(numbers) {
    Job& job = launch_.job;
    job.first = work.first;
    job.seed = work.seed;
    job.tally = work.tally;
    job.watched = work.watched;
    job.from = element_index_of(work.from, convert::Elements{});
    job.to = element_index_of(work.to, convert::Elements{});
    job.from_side.size = work.from.bits / 8;
    job.to_side.size = work.to.bits / 8;
    job.from_side.swapped = work.source_swapped && job.from_side.size > 1;
    job.to_side.swapped = work.destination_swapped && job.to_side.size > 1;
    job.from_scalars = static_cast<int>(work.from_scalars);
    job.to_scalars = static_cast<int>(work.to_scalars);
    job.reversed = static_cast<int>(work.reversed);
    job.keeps_bits = is_dtype(work.from, work.to) && work.from_scalars == work.to_scalars && work.affine.count == 0;
    job.policy = {work.saturate && !job.keeps_bits, work.affine.count != 0 && !is_float(work.to),
                  work.stochastic && !job.keeps_bits};
    job.writes = work.writes;
    job.odd = work.affine.count == 0;
    job.affine = work.affine;
    if (work.affine.count != 0 && work.affine.inner - 1 < 0xFFFFFFFF) {  // none of no elements
      job.inner = Divisor(static_cast<std::uint32_t>(work.affine.inner));
      job.indices = Divisor(static_cast<std::uint32_t>(work.affine.count));
    }
    launch_.from = work.from;
    launch_.to = work.to;
    launch_.wide = wide_type_of(work);
    if (moves_bits() && job.from_side.swapped == job.to_side.swapped) {
      job.from_side.swapped = job.to_side.swapped = false;
    }
    if (moves_bits()) launch_.wide = WideKind::unsigned_;  // it needs the least registers
  }

  Launch choose() noexcept {
    if (work_.segment_count != 0) {
      take_segments();
    } else if (work_.count != 0) {
      take_one();
    }
    const std::uint64_t most = launch_.job.tally != nullptr ? numbers_.most_blocks_counting : numbers_.most_blocks;
    const std::uint64_t blocks = most_blocks(work_.reach, most, bytes_of_thread());
    launch_.blocks = static_cast<std::uint32_t>(std::min(launch_.job.steps, blocks));
    return launch_;
  }

 private:
  // On the host's side.
  [[nodiscard]] std::uint64_t bytes_of_thread() const noexcept {
    if (launch_.kind != KernelKind::general) {
      const bool writes = work_.reach == Reach::writes_host;
      return writes ? tuning::Fused::bytes * written_ / tuning::Fused::vector : tuning::Fused::bytes;
    }
    const Side& side = work_.reach == Reach::reads_host ? launch_.job.from_side : launch_.job.to_side;
    return bytes_of_group(side);
  }
  // Nothing is done to the elements but to move them.
  [[nodiscard]] bool moves_bits() const noexcept { return launch_.job.keeps_bits && launch_.job.tally == nullptr; }

  // Whether all that is asked for is to convert; and to scale, perhaps.
  [[nodiscard]] bool is_plain() const noexcept { return is_plain_or_scaled() && launch_.job.affine.count == 0; }
  [[nodiscard]] bool is_plain_or_scaled() const noexcept {
    const Job& job = launch_.job;
    return job.tally == nullptr && job.writes && !job.policy.stochastic && !job.from_side.swapped &&
           !job.to_side.swapped;
  }

  // Elements of several scalars are as many of one, where nothing is said of them as a whole.
  [[nodiscard]] bool is_flat() const noexcept {
    return work_.from_scalars == work_.to_scalars && work_.reversed == 1 &&
           (work_.from_scalars == 1 || work_.tally == nullptr);
  }

  void take_one() noexcept {
    Job& job = launch_.job;
    job.source = static_cast<const unsigned char*>(work_.source);
    job.destination = static_cast<unsigned char*>(work_.destination);
    job.count = work_.count;
    job.source_places = work_.source_places;
    job.destination_places = work_.destination_places;
    const bool dense = is_flat() && is_dense(work_.source_places, work_.source_size(), work_.count) &&
                       is_dense(work_.destination_places, work_.destination_size(), work_.count);
    if (dense) {
      job.source += work_.source_places.offset(0);
      job.destination += work_.destination_places.offset(0);
      Segment all{job.source, job.destination, work_.count};
      take_dense(&all, 1, Walk::dense);
      job.source = static_cast<const unsigned char*>(all.source);
      job.destination = static_cast<unsigned char*>(all.destination);
      job.count = all.count;
      return;
    }
    job.from_side.access = strided_access(job.source, job.source_places, size_of(job.from_side));
    job.to_side.access = strided_access(job.destination, job.destination_places, size_of(job.to_side));
    job.narrow = is_narrow();
    if (const std::optional<Tiles> tiles = tiles_of(work_, numbers_)) {
      job.walk = Walk::tiled;
      job.tiles = *tiles;
      if (take_channels()) return;
      take_transpose();
      job.steps = job.tiles.tiles[0] * job.tiles.tiles[1] * outer_count(job.tiles, work_);
      launch_.shared_bytes = job.tiles.pitch * job.tiles.tile[1];
    } else {
      job.walk = Walk::strided;
      job.steps = general_steps(job.count);
    }
  }

  // As channels that are separated, if that is what the tiles are.
  [[nodiscard]] bool take_channels() noexcept {
    Job& job = launch_.job;
    Tiles& tiles = job.tiles;
    const auto in = static_cast<std::int64_t>(size_of(job.from_side));
    const auto out = static_cast<std::int64_t>(size_of(job.to_side));
    const std::uint64_t channels = tiles.plane[0];
    const Affine& affine = job.affine;
    const bool along_channels = affine.count == channels && affine.inner == tiles.plane_number_strides[0];
    const bool dense = tiles.plane_source_strides[0] == in &&
                       tiles.plane_source_strides[1] == static_cast<std::int64_t>(channels) * in &&
                       tiles.plane_destination_strides[1] == out;
    if (!dense || !is_flat() || work_.from_scalars != 1 || !is_plain_or_scaled()) return false;
    if (affine.count > 1 && !along_channels) return false;
    if (work_.count / channels >= std::uint64_t{1} << 32) return false;  // pixels are numbered in 32 bits
    if (affine.count != 0 && !is_float(work_.to)) return false;
    if (job.from_side.access == Access::bytes || job.to_side.access == Access::bytes) return false;
    return use_channels(work_.from, work_.to, channels, [&](auto body) {
      using Body = decltype(body);
      launch_.kind = KernelKind::channels;
      const std::uint64_t pixels = tiles.plane[1];
      std::uint64_t from_bits = address_of(job.source) + static_cast<std::uint64_t>(tiles.source_base);
      std::uint64_t to_bits = address_of(job.destination) + static_cast<std::uint64_t>(tiles.destination_base);
      to_bits |= static_cast<std::uint64_t>(tiles.plane_destination_strides[0]);
      for (int axis = 0; axis < tiles.axes; ++axis) {
        from_bits |= static_cast<std::uint64_t>(tiles.source_strides[axis]);
        to_bits |= static_cast<std::uint64_t>(tiles.destination_strides[axis]);
      }
      const bool vectors = pixels % Body::pixels == 0 && from_bits % Body::unit == 0 && to_bits % Body::alignment == 0;
      job.from_side.access = job.to_side.access = vectors ? Access::vectors : Access::scalars;
      tiles.tile[1] = vectors ? Body::pixels : 1;
      tiles.tiles[1] = pixels / tiles.tile[1];
      job.groups = outer_count(tiles, work_) * tiles.tiles[1];
      job.groups_of_row = Divisor(static_cast<std::uint32_t>(tiles.tiles[1]));
      const std::uint64_t some = Body::groups_of_block(vectors);
      job.steps = (job.groups + some - 1) / some;
    });
  }

  // By the kernel that transposes, if there is one of what is asked for; else the general one walks the same tiles.
  void take_transpose() noexcept {
    Job& job = launch_.job;
    const bool swaps = job.from_side.swapped != job.to_side.swapped;
    if (job.tally != nullptr || !job.writes || job.policy.stochastic || job.affine.count != 0 || !is_flat()) return;
    if (swaps && (!moves_bits() || work_.from_scalars != 1)) return;
    if (!moves_bits() && (job.from_side.swapped || work_.from_scalars != 1)) return;
    // What is moved has the size of an element, however many scalars that is.
    const std::uint64_t in = work_.source_size();
    const std::uint64_t out = work_.destination_size();
    if (strided_access(job.source, job.source_places, in) == Access::bytes) return;
    if (strided_access(job.destination, job.destination_places, out) == Access::bytes) return;
    const auto take = [&](auto body) {
      using Body = decltype(body);
      launch_.kind = KernelKind::transpose;
      job.from_side = {sizeof(typename Body::In), Access::scalars, false};
      job.to_side = {sizeof(typename Body::Out), Access::scalars, swaps};
      job.from_scalars = job.to_scalars = 1;
      pad(job.tiles, Body::size, Body::size, numbers_.most_bytes_of_tile);
      for (std::size_t side = 0; side < 2; ++side) job.tile_rows[side] = Divisor(job.tiles.tile[side]);
    };
    if (moves_bits()) {
      use_moving_transpose(static_cast<int>(in), take);
    } else {
      use_converting_transpose(work_.from, work_.to, take);
    }
  }

  void take_segments() noexcept {
    Job& job = launch_.job;
    job.walk = Walk::several;
    for (std::uint32_t i = 0; i < work_.segment_count; ++i) {
      if (work_.segments[i].count > 0) job.segments[job.segment_count++] = work_.segments[i];
    }
    take_dense(job.segments, job.segment_count, Walk::several);
  }

  static std::uint64_t size_of(const Side& side) noexcept { return static_cast<std::uint64_t>(side.size); }
  [[nodiscard]] std::uint64_t bytes_of_group(const Side& side) const noexcept {
    return size_of(side) * static_cast<std::uint64_t>(numbers_.group);
  }

  // One run of elements, or several.
  void take_dense(Segment* segments, std::uint32_t count, Walk walk) noexcept {
    Job& job = launch_.job;
    job.walk = walk;
    const std::uint64_t scalars = work_.from_scalars;
    std::uint64_t from_bits = 0;
    std::uint64_t to_bits = 0;
    std::uint64_t byte_bits = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      segments[i].count *= scalars;
      from_bits |= address_of(segments[i].source);
      to_bits |= address_of(segments[i].destination);
      byte_bits |= segments[i].count * size_of(job.from_side);
    }
    job.from_scalars = job.to_scalars = 1;
    job.first *= scalars;
    job.narrow = is_narrow();
    const bool one = walk == Walk::dense && count == 1;
    if (moves_bits() && is_plain()) {
      launch_.kind = KernelKind::copy;
      const std::uint64_t element = one ? 1 : 16;  // several tensors have no head
      const auto head = head_of({from_bits, element, 16}, {to_bits, element, 16});
      if (!head) launch_.kind = KernelKind::general;
      // As bytes, or as the largest scalars that both sides hold aligned.
      std::uint64_t unit = 1;
      if (!head) {
        while (unit < 8 && (from_bits | to_bits | byte_bits) % (2 * unit) == 0) unit *= 2;
      }
      for (std::uint32_t i = 0; i < count; ++i) segments[i].count = segments[i].count * size_of(job.from_side) / unit;
      job.from_side.size = job.to_side.size = static_cast<int>(unit);
      job.head = head.value_or(0);
    } else if (is_plain_or_scaled()) {
      const auto take = [&](auto body) {
        using Body = decltype(body);
        const std::uint64_t in = sizeof(typename Body::In);
        const std::uint64_t out = sizeof(typename Body::Out);
        const Vectors from{from_bits, one ? in : 16, alignof(typename Body::InVectors)};
        const Vectors to{to_bits, one ? out : 16, alignof(typename Body::OutVectors)};
        const auto head = head_of(from, to);
        if (!head || *head >= Body::elements) return;
        launch_.kind = Body::prepares ? KernelKind::scaled : KernelKind::fused;
        written_ = sizeof(typename Body::OutVectors);
        job.head = *head;
        if (Body::prepares) launch_.shared_bytes = static_cast<std::uint32_t>(job.affine.count * sizeof(Coefficients));
      };
      if (job.affine.count != 0 && !set_period()) {
        // The axis is too long to be counted in 32 bits.
      } else if (job.affine.count == 0) {
        use_fused(work_.from, work_.to, take);
      } else {
        use_scaled(work_.from, work_.to, take);
      }
    }
    job.from_side.access = dense_access(from_bits, size_of(job.from_side), bytes_of_group(job.from_side));
    job.to_side.access = dense_access(to_bits, size_of(job.to_side), bytes_of_group(job.to_side));
    for (std::uint32_t i = 0; i < count; ++i) {
      if (!one) job.segment_steps[i] = job.steps;
      job.steps += steps_of_run(segments[i].count);
    }
  }

  // What elements of the affine axis are divided by, if it can be counted in 32 bits.
  [[nodiscard]] bool set_period() noexcept {
    Job& job = launch_.job;
    constexpr std::uint64_t bound = std::uint64_t{1} << 31;
    if (job.affine.count == 1) return true;
    if (job.affine.inner >= bound / Affine::most) return false;
    job.period = static_cast<std::uint32_t>(job.affine.inner * job.affine.count);
    return true;
  }

  // Of the general kernel, where there are no tiles.
  [[nodiscard]] std::uint64_t general_steps(std::uint64_t count) const noexcept {
    const std::uint64_t some = std::uint64_t{tuning::threads} * static_cast<std::uint64_t>(numbers_.group);
    return (count + some - 1) / some;
  }

  [[nodiscard]] std::uint64_t steps_of_run(std::uint64_t count) const noexcept {
    const std::uint32_t head = launch_.job.head;
    if (launch_.kind == KernelKind::general) return general_steps(count);
    std::uint64_t steps = 0;
    use_dense(launch_, [&](auto body) { steps = steps_of<decltype(body)>(count, head); });
    return steps;
  }

  // Whether whatever is divided to find an element fits 32 bits.
  [[nodiscard]] bool is_narrow() const noexcept {
    constexpr std::uint64_t bound = std::uint64_t{1} << 32;
    const auto fits = [](const Places& places, std::uint64_t count) {
      std::uint64_t largest = places.first + count;
      for (int axis = 0; axis < places.axes; ++axis) {
        largest = std::max(largest, static_cast<std::uint64_t>(places.dims[axis]));
      }
      return largest < bound;
    };
    return work_.first + work_.count < bound && work_.affine.inner < bound && work_.affine.count < bound &&
           fits(work_.source_places, work_.count) && fits(work_.destination_places, work_.count);
  }

  const Conversion& work_;
  const tuning::Numbers& numbers_;
  Launch launch_;
  std::uint64_t written_ = tuning::Fused::vector;  // bytes that a thread of a fused kernel writes at a time
};

}  // namespace

Launch choose(const Conversion& work, const tuning::Numbers& numbers) noexcept {
  return Chooser(work, numbers).choose();
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
