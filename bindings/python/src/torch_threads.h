// The threads of torch's OpenMP runtime for the tasks of casts.
#pragma once

namespace halfway::python {

// From now on large casts run on the OpenMP team of the calling thread, the one torch runs its own loops on, instead of
// on a pool beside it: there are no more threads than torch has, and none of torch's, which spin for a while after each
// of its loops, is in the way. Casts of other threads meanwhile, casts inside of a parallel region and those of a torch
// with a single thread go on as they would without. Does nothing where torch does not use OpenMP. torch must be loaded.
void share_threads_with_torch() noexcept;

}  // namespace halfway::python
