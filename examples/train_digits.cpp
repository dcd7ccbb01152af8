// Train on data that NumPy saved, without Python: halfway maps the files, libtorch computes, NumPy reads what comes
// out.
//
//   np.save("images.npy", images.astype(np.float32))   # (n, 64), pixels 0 to 16
//   np.save("labels.npy", labels)                      # (n,), int64
//
// Run: train_digits FOLDER [float32|bfloat16]
// It trains on the first 1400 images, and saves what it predicts for the others as predictions_<dtype>.npy.
#include <halfway/npy.h>
#include <halfway/torch.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

// The tensor in a file: its own pages where the dtype is the file's, else made of them in one pass. `copied` goes up by
// the bytes that were written.
at::Tensor load(const std::filesystem::path& path, halfway::DType dtype, std::size_t& copied) {
  halfway::Tensor file = halfway::load_npy(path, {.copy_on_write = true});  // torch has no read-only tensors
  const void* const pages = file.view().data;
  at::Tensor tensor = file.view().dtype == dtype
                          ? halfway::to_torch(std::move(file))
                          : halfway::cast_to_torch(file.view(), dtype, {.casting = halfway::Casting::same_value});
  if (tensor.const_data_ptr() != pages) copied += tensor.nbytes();
  return tensor;
}

void train(const std::filesystem::path& folder, halfway::DType dtype) {
  constexpr std::int64_t trained = 1400;
  constexpr std::int64_t batch = 64;
  const std::string name = halfway::to_string(dtype);

  std::size_t copied = 0;
  const at::Tensor images = load(folder / "images.npy", dtype, copied);
  const at::Tensor labels = load(folder / "labels.npy", halfway::int64, copied);

  torch::manual_seed(0);
  at::set_num_threads(1);  // small matrices: more threads only wait for each other
  torch::nn::Sequential model(torch::nn::Linear(64, 64), torch::nn::ReLU(), torch::nn::Linear(64, 10));
  model->to(halfway::to_torch(dtype));
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.02));

  double loss = 0;
  for (int epoch = 0; epoch < 30; ++epoch) {
    loss = 0;
    for (std::int64_t first = 0; first < trained; first += batch) {
      const std::int64_t last = std::min(first + batch, trained);
      optimizer.zero_grad();
      // Slices are views: batches come from the file's pages.
      const at::Tensor scores = model->forward(images.slice(0, first, last));
      const at::Tensor error = torch::nn::functional::cross_entropy(scores, labels.slice(0, first, last));
      error.backward();
      optimizer.step();
      loss += error.item<double>() * static_cast<double>(last - first) / static_cast<double>(trained);
    }
  }

  const torch::NoGradGuard no_grad;
  const at::Tensor predicted = model->forward(images.slice(0, trained)).argmax(1);
  const double accuracy = predicted.eq(labels.slice(0, trained)).to(at::kDouble).mean().item<double>();
  halfway::save_npy(folder / ("predictions_" + name + ".npy"), halfway::view_of(predicted));

  std::printf("%s: loss %.4f, test accuracy %.4f, %zu bytes copied\n", name.c_str(), loss, accuracy, copied);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2 || count > 3) {
    std::fprintf(stderr, "usage: %s FOLDER [float32|bfloat16]\n", arguments[0]);
    return 2;
  }
  try {
    const halfway::DTypeInfo* const dtype = halfway::find(count == 3 ? arguments[2] : "float32");
    if (dtype == nullptr) throw std::invalid_argument(std::string("there is no dtype ") + arguments[2]);
    train(arguments[1], dtype->dtype);
  } catch (const std::exception& error) {  // halfway's and libtorch's errors, and the system's
    std::fprintf(stderr, "train_digits: %s\n", error.what());
    return 1;
  }
  return 0;
}
