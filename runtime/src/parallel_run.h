#pragma once
namespace halfway {
inline namespace v0 {
namespace detail {
inline int parallel_width() noexcept { return 1; }
template <class T> void run_parallel(int n, const T& t) noexcept { for (int i=0;i<n;++i) t(i); }
}
}
}
