// What .npy files need of the operating system. Private to the runtime.
#pragma once

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <span>

namespace halfway {
inline namespace v0 {
namespace detail {

// A file's bytes in memory. Empty files have none.
class FileMap {
 public:
  // throws: NpyError (not_regular), std::filesystem::filesystem_error, Error (unavailable)
  FileMap(const std::filesystem::path& path, bool copy_on_write);
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;
  ~FileMap();

  // To be written to if it was made for that.
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

// Writes a file of these parts, which then takes the place of `path`; when this throws, `path` is as it was.
// throws: std::filesystem::filesystem_error, Error (unavailable)
void replace_file(const std::filesystem::path& path, std::initializer_list<std::span<const std::byte>> parts);

}  // namespace detail
}  // namespace v0
}  // namespace halfway
