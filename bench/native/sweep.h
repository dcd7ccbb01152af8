// One sweep over memory, for one instruction set. floor.cpp includes this file once for each, so there is no guard; it
// defines SWEEP (the function's name), SWEEP_TARGET (its attribute), SWEEP_VECTOR (the register's type), and
// SWEEP_LOAD, SWEEP_STORE, SWEEP_STREAM and SWEEP_OR over it, of which the store to be streamed is aligned.

// Reads `units` times `Read` bytes and writes `units` times `Write` bytes, each exactly once and in ascending order.
// One of the two is 1. Where several bytes are read for one that is written, they are OR-ed: nothing that is read goes
// unused.
template <std::size_t Read, std::size_t Write, bool Stream>
SWEEP_TARGET void SWEEP(const std::byte* source, std::byte* destination, std::size_t units) {
  constexpr std::size_t width = sizeof(SWEEP_VECTOR);
  constexpr std::size_t unroll = Read + Write < 8 ? 8 / (Read + Write) : 1;

  if constexpr (Stream) {
    const auto misalignment = reinterpret_cast<std::uintptr_t>(destination) % width;
    const std::size_t before = misalignment == 0 ? 0 : width - misalignment;
    if (before % Write != 0) return SWEEP<Read, Write, false>(source, destination, units);
    const std::size_t head = before / Write < units ? before / Write : units;
    sweep_bytes<Read, Write>(source, destination, head);
    source += head * Read;
    destination += head * Write;
    units -= head;
  }
  const auto step = [](const std::byte* from, std::byte* to) SWEEP_TARGET {
    SWEEP_VECTOR all = SWEEP_LOAD(from);
    for (std::size_t i = 1; i < Read; ++i) all = SWEEP_OR(all, SWEEP_LOAD(from + i * width));
    for (std::size_t i = 0; i < Write; ++i) {
      if constexpr (Stream) {
        SWEEP_STREAM(to + i * width, all);
      } else {
        SWEEP_STORE(to + i * width, all);
      }
    }
  };
  std::size_t done = 0;
  for (; done + unroll * width <= units; done += unroll * width) {
    for (std::size_t i = 0; i < unroll; ++i) {
      step(source + (done + i * width) * Read, destination + (done + i * width) * Write);
    }
  }
  for (; done + width <= units; done += width) step(source + done * Read, destination + done * Write);
  sweep_bytes<Read, Write>(source + done * Read, destination + done * Write, units - done);
}

#undef SWEEP
#undef SWEEP_TARGET
#undef SWEEP_VECTOR
#undef SWEEP_LOAD
#undef SWEEP_STORE
#undef SWEEP_STREAM
#undef SWEEP_OR
