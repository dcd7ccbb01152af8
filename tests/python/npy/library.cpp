// A C library for the Python tests (ctypes): .npy files loaded and saved by the runtime, told in words.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <string>

#include "halfway/cast.h"
#include "halfway/npy.h"

#define LIBRARY extern "C" __attribute__((visibility("default")))

namespace {

std::string describe(const halfway::TensorView& view) {
  std::string text = to_string(view.dtype);
  text += view.swapped ? " swapped (" : " native (";
  for (const std::int64_t dim : view.shape) text += std::to_string(dim) + ",";
  text += ") (";
  for (const std::int64_t stride : view.strides) text += std::to_string(stride) + ",";
  return text + ")";
}

}  // namespace

// Loads `path` as elements of `dtype` (a name, or empty). Tells the tensor, or the defect or error behind '!'. Saves it
// as `to`, if that is no empty string, with the axes in this order: as they are, reversed (1), the first one last (2).
LIBRARY void npy_load(const char* path, const char* dtype, const char* to, int order, char* told, std::size_t room) {
  std::string text;
  try {
    halfway::NpyOptions options;
    if (*dtype != '\0') options.dtype = halfway::find(std::string_view(dtype))->dtype;
    const halfway::Tensor tensor = halfway::load_npy(path, options);
    text = describe(tensor.view());
    if (*to != '\0') {
      halfway::TensorView view = tensor.view();
      std::int64_t shape[halfway::max_ndim];
      std::int64_t strides[halfway::max_ndim];
      const std::size_t ndim = view.shape.size();
      for (std::size_t i = 0; i < ndim; ++i) {
        const std::size_t from = order == 0 ? i : order == 1 ? ndim - 1 - i : (i + 1) % ndim;
        shape[i] = view.shape[from];
        strides[i] = view.strides[from];
      }
      view.shape = {shape, ndim};
      view.strides = {strides, ndim};
      halfway::save_npy(to, view);
    }
  } catch (const halfway::NpyError& error) {
    text = "!" + std::string(to_string(error.defect()));
  } catch (const std::exception& error) {
    text = std::string("!!") + error.what();
  }
  std::snprintf(told, room, "%s", text.c_str());
}
