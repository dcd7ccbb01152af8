// halfway in a program that knows neither Python nor torch: frames of a camera, in buffers that the program recycles
// itself, become normalised bfloat16 planes for whoever takes DLPack.
//
// Prints what the cast did, and that every buffer came back.
#include <halfway/halfway.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

namespace {

constexpr std::int64_t height = 48;
constexpr std::int64_t width = 64;
constexpr std::int64_t channels = 3;

// The program's own memory: a few frames, handed out and taken back.
class Camera {
 public:
  Camera() {
    for (auto& frame : frames_) free_.push_back(frame.data());
  }

  // A frame as a tensor, row-major uint8 of shape (height, width, channels). It comes back by `give_back`, when the
  // last share of the tensor goes, on whatever thread that is: here it is this one.
  halfway::Tensor next_frame() {
    std::uint8_t* const frame = free_.back();
    free_.pop_back();
    for (std::size_t i = 0; i < frame_bytes; ++i) frame[i] = static_cast<std::uint8_t>(i * 7);
    const std::array<std::int64_t, 3> shape{height, width, channels};
    const std::array<std::int64_t, 3> strides{width * channels, channels, 1};
    const halfway::MutableView view{.data = frame, .dtype = halfway::uint8, .shape = shape, .strides = strides};
    auto loan = std::make_unique<Loan>(Loan{this, frame});
    return halfway::Tensor::adopt(view, loan.release(), give_back);
  }

  [[nodiscard]] std::size_t free_frames() const { return free_.size(); }

 private:
  static constexpr auto frame_bytes = static_cast<std::size_t>(height * width * channels);
  struct Loan {
    Camera* camera;
    std::uint8_t* frame;
  };
  static void give_back(void* context) {
    const std::unique_ptr<Loan> loan(static_cast<Loan*>(context));
    loan->camera->free_.push_back(loan->frame);
  }

  std::array<std::array<std::uint8_t, frame_bytes>, 3> frames_{};
  std::vector<std::uint8_t*> free_;
};

// The other library: it gets a struct, uses it, and releases it by the struct's own deleter. It could be anything that
// takes DLPack; this one is halfway again.
bool other_library(DLManagedTensorVersioned* managed) {
  const halfway::Tensor tensor = halfway::from_dlpack(managed);
  const halfway::TensorView view = tensor.view();
  return view.dtype == halfway::bfloat16 && view.shape[0] == channels && halfway::is_contiguous(view);
}

}  // namespace

int main() {
  Camera camera;
  const std::vector<double> scale{1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)};
  const std::vector<double> shift{-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225};
  const std::array<std::int64_t, 3> planes{2, 0, 1};

  try {
    halfway::Tensor frame = camera.next_frame();
    halfway::Report report;
    // One pass: normalised, rounded once, and its axes in the order of planes.
    halfway::Tensor normalised =
        halfway::cast(frame.view(), halfway::bfloat16,
                      {.scale = scale, .shift = shift, .axis = -1, .permute = planes, .report = &report});
    std::printf("%llu elements cast, %llu of them inexactly\n", static_cast<unsigned long long>(report.count),
                static_cast<unsigned long long>(report.inexact));

    frame.reset();
    std::printf("frames back: %zu of 3\n", camera.free_frames());

    // The frame itself can go out as well: no copy, and the buffer comes back when the other library lets go.
    DLManagedTensorVersioned* const lent = camera.next_frame().to_dlpack();
    std::printf("frames back while one is lent: %zu of 3\n", camera.free_frames());
    static_cast<void>(other_library(lent));
    std::printf("frames back: %zu of 3\n", camera.free_frames());

    if (!other_library(std::move(normalised).to_dlpack())) return 1;
  } catch (const halfway::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return camera.free_frames() == 3 ? 0 : 1;
}
