#include "npy/file.h"

#include "halfway/error.h"
#include "halfway/npy.h"

#if defined(__unix__) || defined(__APPLE__)
#define HALFWAY_HAS_FILE_MAPS
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

namespace halfway {
inline namespace v0 {
namespace detail {

namespace fs = std::filesystem;

#if defined(HALFWAY_HAS_FILE_MAPS)
namespace {

[[noreturn]] void fail(const char* what, const fs::path& path) {
  throw fs::filesystem_error(what, path, std::error_code(errno, std::generic_category()));
}

class Descriptor {
 public:
  explicit Descriptor(int value) noexcept : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { static_cast<void>(close()); }

  [[nodiscard]] int get() const noexcept { return value_; }
  // Whether what was written is with the system: some file systems say so here first.
  [[nodiscard]] bool close() noexcept {
    const int value = std::exchange(value_, -1);
    return value < 0 || ::close(value) == 0;
  }

 private:
  int value_;
};

// A file under a name of its own, until it is renamed.
class Draft {
 public:
  Draft(const fs::path& target, mode_t mode) : file_(create(target.parent_path(), mode, path_)) {
    if (file_.get() < 0) fail("cannot create a file beside", target);
  }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  ~Draft() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }

  [[nodiscard]] Descriptor& file() noexcept { return file_; }

  void rename(const fs::path& target) {
    if (::rename(path_.c_str(), target.c_str()) != 0) fail("cannot replace", target);
    path_.clear();
  }

 private:
  static int create(const fs::path& directory, mode_t mode, fs::path& path) {
    static std::atomic<unsigned> next{0};
    for (;;) {
      const std::string name = ".halfway-" + std::to_string(::getpid()) + "-" + std::to_string(next.fetch_add(1));
      fs::path candidate = directory / (name + ".tmp");
      const int descriptor = ::open(candidate.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
      if (descriptor >= 0) path = std::move(candidate);
      if (descriptor >= 0 || (errno != EEXIST && errno != EINTR)) return descriptor;
    }
  }

  fs::path path_;
  Descriptor file_;
};

// What a chain of symbolic links leads to, where nothing is there yet.
fs::path end_of_links(const fs::path& path) {
  constexpr int most = 40;  // as Linux follows; `path` is no circle unless somebody makes it one meanwhile
  fs::path end = path;
  for (int links = 0; fs::is_symlink(fs::symlink_status(end)); ++links) {
    if (links == most) {
      errno = ELOOP;
      fail("cannot follow", path);
    }
    end = end.parent_path() / fs::read_symlink(end);
  }
  return end;
}

void write_all(int file, std::span<const std::byte> bytes, const fs::path& target) {
  constexpr std::size_t most = std::size_t{1}
                               << 30;  // Linux writes no more than 2 GiB at once, macOS fails beyond them
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), std::min(bytes.size(), most));
    if (written < 0 && errno != EINTR) fail("cannot write", target);
    if (written > 0) bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

}  // namespace

FileMap::FileMap(const fs::path& path, bool copy_on_write) {
  // Without O_NONBLOCK, opening a pipe would wait for somebody who writes to it.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) fail("cannot open", path);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail("cannot examine", path);
  if (!S_ISREG(status.st_mode)) throw NpyError(NpyDefect::not_regular, path, "");
  if (status.st_size == 0) return;
  const auto size = static_cast<std::size_t>(status.st_size);
  const int protection = PROT_READ | (copy_on_write ? PROT_WRITE : 0);
  void* const memory = ::mmap(nullptr, size, protection, MAP_PRIVATE, file.get(), 0);
  if (memory == MAP_FAILED) fail("cannot map", path);
  bytes_ = {static_cast<std::byte*>(memory), size};
}

FileMap::~FileMap() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

void replace_file(const fs::path& path, std::initializer_list<std::span<const std::byte>> parts) {
  // Renaming would replace a symbolic link, or a device that is called like a file, itself.
  struct stat status {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  if (!exists && errno != ENOENT) fail("cannot examine", path);
  if (exists && !S_ISREG(status.st_mode)) {
    throw fs::filesystem_error("cannot replace what is no regular file", path,
                               std::make_error_code(std::errc::invalid_argument));
  }
  const fs::path target = exists ? fs::canonical(path) : end_of_links(path);
  // Nobody reads of a private file what is not its own yet.
  Draft draft(target, exists ? 0600 : 0666);
  for (const std::span<const std::byte> part : parts) write_all(draft.file().get(), part, path);
  // Not every file system has permissions: the file then has those that it gives.
  if (exists) static_cast<void>(::fchmod(draft.file().get(), status.st_mode & 0777U));
  if (!draft.file().close()) fail("cannot write", path);
  draft.rename(target);
}

#else

FileMap::FileMap(const fs::path&, bool) {
  throw Error(Reason::unavailable, "files cannot be mapped into memory on this platform");
}
FileMap::~FileMap() = default;

void replace_file(const fs::path&, std::initializer_list<std::span<const std::byte>>) {
  throw Error(Reason::unavailable, "files cannot be replaced atomically on this platform");
}

#endif

}  // namespace detail
}  // namespace v0
}  // namespace halfway
