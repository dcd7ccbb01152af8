// .npy files on disk: what is loaded shares the file's pages, what is saved is there completely or not at all.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>
#include <numeric>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "arrays.h"
#include "counting_new.h"
#include "dlpack/dlpack.h"
#include "halfway/cast.h"
#include "halfway/layout.h"
#include "halfway/npy.h"
#include "reason_of.h"
#include "rounds.h"

namespace {

namespace fs = std::filesystem;
using halfway::DType;
using halfway::load_npy;
using halfway::NpyDefect;
using halfway::NpyError;
using halfway::Reason;
using halfway::save_npy;
using halfway::Tensor;
using halfway::TensorView;
using halfway_test::reason_of;

// An empty directory, gone with its contents at the end.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "halfway-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw fs::filesystem_error("mkdtemp", pattern, {});
    path_ = pattern;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { fs::remove_all(path_); }

  [[nodiscard]] fs::path operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(path_)) found.push_back(entry.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  fs::path path_;
};

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t open_files() {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator{}));
}

bool is_mapped(const fs::path& path) {
  std::ifstream maps("/proc/self/maps");
  const std::string all(std::istreambuf_iterator<char>(maps), {});
  return all.find(path.filename().string()) != std::string::npos;
}

// float32 0, 1, 2, ... of a shape, row-major.
struct Counting {
  explicit Counting(std::vector<std::int64_t> dims) : shape(std::move(dims)), strides(shape.size()) {
    halfway::row_major_strides(shape, strides);
    values.resize(static_cast<std::size_t>(*halfway::element_count(shape)));
    std::iota(values.begin(), values.end(), 0.0F);
  }
  [[nodiscard]] TensorView view() const {
    return {.data = values.data(), .dtype = halfway::float32, .shape = shape, .strides = strides};
  }

  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  std::vector<float> values;
};

const float* floats(const Tensor& tensor) { return static_cast<const float*>(tensor.view().data); }

BOOST_AUTO_TEST_SUITE(npy)

BOOST_AUTO_TEST_CASE(a_loaded_tensor_is_the_file) {
  const Folder folder;
  const fs::path path = folder / "counting.npy";
  const Counting counting({3, 5});
  save_npy(path, counting.view());

  const std::size_t before = open_files();
  Tensor tensor = load_npy(path);
  BOOST_TEST(open_files() == before);
  const TensorView view = tensor.view();
  BOOST_TEST((view.dtype == halfway::float32));
  BOOST_TEST(view.readonly);
  BOOST_TEST(!view.swapped);
  BOOST_TEST(view.shape == std::span<const std::int64_t>(counting.shape), boost::test_tools::per_element());
  BOOST_TEST(halfway::is_contiguous(view));
  BOOST_TEST(reinterpret_cast<std::uintptr_t>(view.data) % 64 == 0U);
  BOOST_TEST(std::memcmp(view.data, counting.values.data(), 60) == 0);

  // Somebody else's write into the file arrives: nothing was copied.
  {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    const float other = -1;
    file.seekp(static_cast<std::streamoff>(fs::file_size(path)) - 4);
    file.write(reinterpret_cast<const char*>(&other), sizeof(other));
  }
  BOOST_TEST(floats(tensor)[14] == -1.0F);

  // The map belongs to the last share or export, not to the name.
  fs::remove(path);
  Tensor share = tensor.share();
  DLManagedTensorVersioned* const exported = std::move(tensor).to_dlpack();
  BOOST_TEST(exported->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
  BOOST_TEST(floats(share)[7] == 7.0F);
  BOOST_TEST(is_mapped(path));
  share.reset();
  BOOST_TEST(static_cast<const float*>(exported->dl_tensor.data)[7] == 7.0F);
  exported->deleter(exported);
  BOOST_TEST(!is_mapped(path));
}

BOOST_AUTO_TEST_CASE(copy_on_write_leaves_the_file_alone) {
  const Folder folder;
  const fs::path path = folder / "counting.npy";
  save_npy(path, Counting({4}).view());
  const std::string before = contents(path);
  Tensor tensor = load_npy(path, {.copy_on_write = true});
  BOOST_TEST(!tensor.view().readonly);
  static_cast<float*>(tensor.mutable_view().data)[2] = 99;
  BOOST_TEST(floats(tensor)[2] == 99.0F);
  BOOST_TEST(floats(load_npy(path))[2] == 2.0F);
  BOOST_TEST(contents(path) == before);
}

// Every dtype in every layout: what is loaded has the elements of what was saved, bit by bit.
BOOST_AUTO_TEST_CASE(what_was_saved_is_loaded) {
  const Folder folder;
  const fs::path path = folder / "array.npy";
  arrays::Random random(3);
  for (const DType dtype : arrays::castable_dtypes()) {
    for (int round = 0; round < rounds::of(60); ++round) {
      arrays::Array array = arrays::random_layout(random, dtype, arrays::random_shape(random, 200), round % 4 == 0);
      BOOST_TEST_CONTEXT(arrays::to_string(array)) {
        save_npy(path, array.view());
        const Tensor loaded = load_npy(path, {.dtype = dtype});
        const TensorView view = loaded.view();
        BOOST_TEST((view.dtype == dtype));
        BOOST_TEST(view.shape == std::span<const std::int64_t>(array.shape), boost::test_tools::per_element());
        arrays::Array again = arrays::contiguous(dtype, array.shape);
        halfway::cast_into(view, again.mutable_view());
        bool equal = true;
        for (std::int64_t i = 0; i < array.count(); ++i) equal = equal && again.get(i) == array.get(i);
        BOOST_TEST(equal);
      }
    }
  }
  BOOST_TEST(folder.names() == std::vector<std::string>{"array.npy"}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(column_major_and_foreign_bytes_are_written_from_where_they_are) {
  const Folder folder;
  const fs::path path = folder / "array.npy";
  const Counting counting({2, 3});
  const std::array<std::int64_t, 2> shape{3, 2};
  const std::array<std::int64_t, 2> strides{1, 3};
  TensorView columns = counting.view().byte_swapped();
  columns.shape = shape;
  columns.strides = strides;
  save_npy(path, columns);
  const std::string file = contents(path);
  BOOST_TEST(file.find("'fortran_order': True") != std::string::npos);
  BOOST_TEST(std::memcmp(file.data() + file.size() - 24, counting.values.data(), 24) == 0);

  const Tensor loaded = load_npy(path);
  BOOST_TEST(loaded.view().swapped);
  BOOST_TEST(loaded.view().strides[0] == 1);
  BOOST_TEST(loaded.view().strides[1] == 3);
  BOOST_TEST(reason_of([&] { static_cast<void>(loaded.share().to_dlpack()); }) == "byte_order");
}

BOOST_AUTO_TEST_CASE(no_elements_and_no_dimensions) {
  const Folder folder;
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{}, {0}, {4, 0, 2}, std::vector<std::int64_t>(64, 1)}) {
    const Counting counting(shape);
    TensorView view = counting.view();
    if (counting.values.empty()) view.data = nullptr;
    save_npy(folder / "array.npy", view);
    const Tensor loaded = load_npy(folder / "array.npy");
    BOOST_TEST(loaded.view().shape == std::span<const std::int64_t>(shape), boost::test_tools::per_element());
    if (!counting.values.empty()) BOOST_TEST(floats(loaded)[0] == 0.0F);
  }
}

BOOST_AUTO_TEST_CASE(elements_narrower_than_a_byte_are_one_a_byte) {
  const Folder folder;
  const std::array<std::uint8_t, 4> codes{0, 1, 7, 15};
  const std::array<std::int64_t, 1> shape{4};
  const std::array<std::int64_t, 1> strides{1};
  TensorView view{.data = codes.data(), .dtype = halfway::float4_e2m1fn, .shape = shape, .strides = strides};
  const fs::path path = folder / "codes.npy";
  BOOST_TEST(reason_of([&] { save_npy(path, view); }) == "unsupported_dtype");  // packed
  BOOST_TEST(folder.names().empty());
  view.padded = true;
  save_npy(path, view);
  const Tensor loaded = load_npy(path, {.dtype = halfway::float4_e2m1fn});
  BOOST_TEST(loaded.view().padded);
  BOOST_TEST(std::memcmp(loaded.view().data, codes.data(), 4) == 0);
}

// The header and one float, but one byte too early: DLPack takes it, and casts read it.
BOOST_AUTO_TEST_CASE(elements_off_their_alignment_are_read) {
  const Folder folder;
  const fs::path path = folder / "array.npy";
  const std::string text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}";
  const float value = 2.5F;
  std::string file = std::string("\x93NUMPY\x01\0", 8) + static_cast<char>(text.size()) + '\0' + text;
  file.append(reinterpret_cast<const char*>(&value), sizeof(value));
  std::ofstream(path, std::ios::binary) << file;
  const Tensor loaded = load_npy(path);
  BOOST_TEST(halfway::is_misaligned(loaded.view()));
  BOOST_TEST(*static_cast<const double*>(halfway::cast(loaded.view(), halfway::float64).view().data) == 2.5);
}

BOOST_AUTO_TEST_CASE(a_file_may_be_saved_over_while_it_is_loaded) {
  const Folder folder;
  const fs::path path = folder / "array.npy";
  save_npy(path, Counting({1000}).view());
  BOOST_TEST_REQUIRE(::chmod(path.c_str(), 0640) == 0);
  fs::create_symlink("array.npy", folder / "link.npy");

  const Tensor old = load_npy(path);
  save_npy(folder / "link.npy", halfway::cast(old.view(), halfway::float64).view());
  BOOST_TEST(floats(old)[999] == 999.0F);
  BOOST_TEST((load_npy(path).view().dtype == halfway::float64));
  BOOST_TEST(fs::is_symlink(folder / "link.npy"));
  BOOST_TEST((fs::status(path).permissions() == static_cast<fs::perms>(0640)));
}

BOOST_AUTO_TEST_CASE(links_are_followed_to_where_no_file_is_yet) {
  const Folder folder;
  fs::create_directory(folder / "data");
  fs::create_directory_symlink(folder / "data", folder / "directory");
  fs::create_symlink("../data/array.npy", folder / "data" / "second.npy");
  fs::create_symlink("directory/second.npy", folder / "first.npy");
  save_npy(folder / "first.npy", Counting({2}).view());
  BOOST_TEST(fs::is_symlink(folder / "first.npy"));
  BOOST_TEST(fs::is_symlink(folder / "data" / "second.npy"));
  BOOST_TEST(fs::is_regular_file(fs::symlink_status(folder / "data" / "array.npy")));
  save_npy(folder / "first.npy", Counting({3}).view());  // now there is one
  BOOST_TEST(load_npy(folder / "data" / "array.npy").view().shape[0] == 3);

  const auto error_of = [&](const char* name) {
    try {
      save_npy(folder / name, Counting({2}).view());
    } catch (const fs::filesystem_error& error) {
      return error.code().value();
    }
    return 0;
  };
  fs::create_symlink("round.npy", folder / "circle.npy");
  fs::create_symlink("circle.npy", folder / "round.npy");
  BOOST_TEST(error_of("circle.npy") == ELOOP);
  fs::create_symlink("absent/array.npy", folder / "nowhere.npy");
  BOOST_TEST(error_of("nowhere.npy") == ENOENT);
  const std::vector<std::string> names{"circle.npy", "data", "directory", "first.npy", "nowhere.npy", "round.npy"};
  BOOST_TEST(folder.names() == names, boost::test_tools::per_element());
  BOOST_TEST(fs::is_symlink(folder / "nowhere.npy"));
}

// A process that the system ends in the middle of writing leaves what it wrote so far.
BOOST_AUTO_TEST_CASE(what_replaces_a_private_file_is_private_while_it_is_written) {
  for (const mode_t mode : {0600U, 0400U, 0640U}) {
    const Folder folder;
    const fs::path path = folder / "array.npy";
    save_npy(path, Counting({2}).view());
    BOOST_TEST_REQUIRE(::chmod(path.c_str(), mode) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::umask(0);
      const rlimit none{};
      const rlimit little{100, 100};
      ::setrlimit(RLIMIT_CORE, &none);
      ::setrlimit(RLIMIT_FSIZE, &little);
      static_cast<void>(std::signal(SIGXFSZ, SIG_DFL));
      save_npy(path, Counting({1000}).view());
      ::_exit(0);
    }
    int status = 0;
    BOOST_TEST_REQUIRE(::waitpid(child, &status, 0) == child);
    BOOST_TEST_REQUIRE(WIFSIGNALED(status));
    BOOST_TEST_REQUIRE(folder.names().size() == 2U);
    struct stat written {};
    BOOST_TEST_REQUIRE(::stat((folder / folder.names().front()).c_str(), &written) == 0);
    BOOST_TEST((written.st_mode & ~mode & 0077U) == 0U);  // nothing for others that they have not had
    BOOST_TEST(load_npy(path).view().shape[0] == 2);
  }
}

BOOST_AUTO_TEST_CASE(what_is_no_file_is_refused) {
  const Folder folder;
  const std::size_t before = open_files();
  const auto defect = [](const fs::path& path) {
    try {
      static_cast<void>(load_npy(path));
    } catch (const NpyError& error) {
      return std::string(to_string(error.defect()));
    } catch (const fs::filesystem_error& error) {
      BOOST_TEST(error.path1() == path);
      return error.code().message();
    }
    return std::string("none");
  };
  BOOST_TEST(defect(folder / "absent.npy") == std::generic_category().message(ENOENT));
  BOOST_TEST(defect(folder / "") == "not_regular");
  BOOST_TEST(defect("/dev/null") == "not_regular");
  BOOST_TEST_REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  BOOST_TEST(defect(folder / "pipe") == "not_regular");  // and does not wait for who writes
  std::ofstream(folder / "empty.npy").close();
  BOOST_TEST(defect(folder / "empty.npy") == "magic");

  const Counting counting({2});
  BOOST_CHECK_THROW(save_npy(folder / "pipe", counting.view()), fs::filesystem_error);
  BOOST_CHECK_THROW(save_npy(folder / "", counting.view()), fs::filesystem_error);
  BOOST_CHECK_THROW(save_npy(folder / "absent/array.npy", counting.view()), fs::filesystem_error);
  BOOST_TEST(fs::is_fifo(folder / "pipe"));
  BOOST_TEST(folder.names().size() == 2U);
  BOOST_TEST(open_files() == before);
}

BOOST_AUTO_TEST_CASE(views_that_cannot_be_saved) {
  const Folder folder;
  const fs::path path = folder / "array.npy";
  const Counting counting({2, 3});
  const auto reason = [&](auto change) {
    TensorView view = counting.view();
    change(view);
    return reason_of([&] { save_npy(path, view); });
  };
  BOOST_TEST(reason([](TensorView& v) { v.device = {halfway::DeviceType::cuda, 0}; }) == "device");
  BOOST_TEST(reason([](TensorView& v) { v.data = nullptr; }) == "no_storage");
  BOOST_TEST(reason([](TensorView& v) { v.strides = v.strides.first(1); }) == "malformed");
  const std::array<std::int64_t, 2> negative{2, -3};
  BOOST_TEST(reason([&](TensorView& v) { v.shape = negative; }) == "malformed");
  BOOST_TEST(folder.names().empty());
}

// The system refuses to write more than so many bytes: at every place a file can break off.
BOOST_AUTO_TEST_CASE(what_is_not_written_completely_is_not_there) {
  const Folder folder;
  const fs::path path = folder / "array.npy";
  save_npy(path, Counting({7}).view());
  const std::string before = contents(path);

  rlimit limit{};
  BOOST_TEST_REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t most : {0U, 1U, 127U, 128U, 129U, 227U}) {
    const rlimit lower{most, limit.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &lower);
    int error = 0;
    try {
      save_npy(path, Counting({25}).view());
    } catch (const fs::filesystem_error& failure) {
      error = failure.code().value();
    }
    ::setrlimit(RLIMIT_FSIZE, &limit);
    BOOST_TEST(error == EFBIG);
    BOOST_TEST(contents(path) == before);
    BOOST_TEST(folder.names().size() == 1U);
  }
  static_cast<void>(std::signal(SIGXFSZ, handler));
}

// Whichever allocation fails, nothing is lost and nothing is left behind.
BOOST_AUTO_TEST_CASE(out_of_memory) {
  const Folder folder;
  const fs::path path = folder / "array.npy";
  const Counting counting({3, 4});
  std::array<std::int64_t, 2> strides{1, 2};
  TensorView strided = counting.view();
  const std::array<std::int64_t, 2> shape{2, 2};
  strided.shape = shape;
  strides = {2, 4};
  strided.strides = strides;
  save_npy(path, counting.view());
  const std::string before = contents(path);
  const std::size_t files = open_files();

  const auto fails_cleanly = [&](auto body) {
    for (std::int64_t successes = 0;; ++successes) {
      const std::int64_t live = halfway_test::live_allocations;
      bool failed = false;
      bool done = false;
      {
        const halfway_test::FailingAllocation failing(successes);
        try {
          body();
          done = true;
        } catch (const std::bad_alloc&) {
          failed = true;
        } catch (const fs::filesystem_error& error) {
          failed = error.code() == std::errc::not_enough_memory;
        }
        done = done && !halfway_test::FailingAllocation::happened();
      }
      if (done) return successes;
      BOOST_TEST(failed);
      BOOST_TEST(halfway_test::live_allocations == live);
      BOOST_TEST(contents(path) == before);
      BOOST_TEST(folder.names().size() == 1U);
      BOOST_TEST(open_files() == files);
      BOOST_TEST_REQUIRE(successes < 200);
    }
  };
  BOOST_TEST(fails_cleanly([&] { static_cast<void>(load_npy(path)); }) > 0);
  BOOST_TEST(!is_mapped(path));
  BOOST_TEST(fails_cleanly([&] { save_npy(path, strided); }) > 0);
  BOOST_TEST(contents(path) != before);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
