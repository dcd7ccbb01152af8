// A program of somebody else, with a libtorch of its own: the adapter as it is installed.
#include <ATen/ATen.h>
#include <halfway/torch.h>

#include <cstdio>
#include <utility>

int main() {
  const at::Tensor x = at::arange(6, at::kFloat).reshape({2, 3}).t();  // columns first
  const at::Tensor narrow = halfway::cast(x, halfway::bfloat16);
  halfway::Tensor shared = halfway::from_torch(narrow);
  const at::Tensor back = halfway::to_torch(std::move(shared));
  if (back.data_ptr() != narrow.data_ptr() || !back.equal(x.to(at::kBFloat16))) {
    std::puts("wrong values, or another memory");
    return 1;
  }
  try {
    (void)halfway::from_torch(x.to_sparse());
    std::puts("no error");
    return 1;
  } catch (const halfway::Error& error) {
    return error.reason() == halfway::Reason::sparse ? 0 : 1;
  }
}
