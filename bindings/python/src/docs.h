// Docstrings of the module. The examples in them run as tests.
#pragma once

namespace halfway::python::docs {

inline constexpr const char* to_torch =
    R"doc(to_torch(x, /, dtype=None, *, device=None, copy=None, out=None, non_blocking=False, allow_readonly=False, report=None, **cast)
--

A torch tensor of x: the same memory where torch can express it, else one pass.

Args:
    x: a NumPy array (plain subclasses and memmaps too), a torch tensor, a halfway.Tensor, anything with
        ``__dlpack__`` or ``__dlpack_c_exchange_api__``, or a DLPack capsule (which is consumed). Any shape of at
        most 64 dimensions.
    dtype: what the result should hold; None keeps the source's dtype. A name, a NumPy, torch or ml_dtypes dtype, a
        Python type as NumPy reads it, or a Cast.
    device: where the result is to be: "cpu", "cuda" (torch's current device), "cuda:1", a torch.device, or a pair as
        __dlpack_device__ gives it. None: where x is. Between the host and a CUDA device the cast is part of the
        transfer; explain() says which side does it. Casts on a device are one launch there, without report=,
        overflow="raise", casting="same_value" and stochastic rounding.
    copy: None copies only where it must, False raises ExchangeError naming every reason, True always copies.
    out: a torch tensor of the result's shape (x's, permuted as permute= says) to write into; it is returned. Its
        dtype and device are the defaults. Excludes copy=.
    non_blocking: towards a device: return when x may be changed by the host, or is kept until the device has read it
        (page-locked memory, see pin; do not change that before torch's current stream has come so far). Without it the
        transfer is done. No effect on the host and towards it.
    allow_readonly: alias read-only memory although torch will let you write to it.
    report: a Report to fill with what the cast lost; zeroed when nothing is cast or copied.
    **cast: casting=, overflow=, rounding=, seed=, scale=, shift=, axis= and permute=, the fields of Cast.

Returns:
    torch.Tensor of the same shape, or the permuted one. A torch tensor with nothing to do is returned itself.

Raises:
    ExchangeError: the exchange is impossible or copy=False forbids it; x is released. "unavailable" says what was
        looked for where there is no such device; "capturing" while a CUDA graph is captured from the stream.
    CastError: the casting level forbids the cast, or a value was lost that must not be; out= is untouched.
    TypeError, ValueError: wrong arguments.

The memory stays alive as long as the tensor, on whatever thread it dies. Large casts and all transfers release the GIL.
Memory on a device comes from torch's allocator and is ready on torch's current stream. Arrays of other libraries that
are on a device are asked for through DLPack to be ready there, too; a bare capsule is taken to be.

Example:
    >>> import numpy as np, halfway
    >>> a = np.arange(4, dtype=np.float32)
    >>> t = halfway.to_torch(a)
    >>> t[0] = 7.0                      # one memory, two libraries
    >>> a
    array([7., 1., 2., 3.], dtype=float32)
    >>> halfway.to_torch(a, "bfloat16")
    tensor([7., 1., 2., 3.], dtype=torch.bfloat16)
)doc";

inline constexpr const char* to_numpy =
    R"doc(to_numpy(x, /, dtype=None, *, copy=None, out=None, non_blocking=False, lock_storage=False, report=None, **cast)
--

A NumPy array of x: the same memory where NumPy can express it, else one pass. Arrays on a CUDA device are transferred.

bfloat16 and the fp8 formats arrive as ml_dtypes dtypes.

Args:
    x: as in to_torch.
    dtype: as in to_torch.
    copy: None copies only where it must, False raises ExchangeError naming every reason, True always copies.
    out: a NumPy array of the result's shape (x's, permuted as permute= says) to write into, of any strides and byte
        order; it is returned. Excludes copy=.
    non_blocking: of arrays on a device: a Pending instead of the array, whose result() is the array. report=,
        overflow="raise", casting="same_value" and out= make it wait; the Pending is ready then. No effect on the host.
    lock_storage: for torch tensors, forbid resizing the storage while the array lives, as Tensor.numpy() does.
        Without it the array is valid until the storage is resized or replaced (resize_, set_, .data =).
    report: a Report to fill with what the cast lost; zeroed when nothing is cast or copied.
    **cast: casting=, overflow=, rounding=, seed=, scale=, shift=, axis= and permute=, the fields of Cast.

Returns:
    numpy.ndarray of the same shape, or the permuted one; read-only where the producer says so. An array with nothing
    to do is returned itself. Tensors that require grad are copied (the copy is detached).

Raises:
    ExchangeError, CastError, TypeError, ValueError: as to_torch.

Example:
    >>> import torch, halfway
    >>> t = torch.tensor([1.5, 2.5], dtype=torch.bfloat16)
    >>> a = halfway.to_numpy(t)
    >>> a.dtype.name
    'bfloat16'
    >>> a[0] = 9
    >>> t
    tensor([9.0000, 2.5000], dtype=torch.bfloat16)
)doc";

inline constexpr const char* cast =
    R"doc(cast(x, dtype, /, *, device=None, copy=None, out=None, non_blocking=False, allow_readonly=False, report=None, **cast)
--

x with another dtype, in x's own library: one pass, one rounding.

Args:
    x, dtype: as in to_torch.
    device, copy, out, non_blocking, allow_readonly, report, **cast: as in to_torch; out= is an array of x's library.

Returns:
    A NumPy array for NumPy (which has none on devices), a torch tensor for torch, else a halfway.Tensor. x itself if
    it has the dtype already and is where it is wanted.

Raises:
    As to_torch.

Example:
    >>> import numpy as np, halfway
    >>> report = halfway.Report()
    >>> halfway.cast(np.array([0.1, 70000.0, -0.5]), "float16", report=report)
    array([ 0.1,  inf, -0.5], dtype=float16)
    >>> report
    Report(count=3, nan=0, overflow=1, underflow=0, inexact=1)
)doc";

inline constexpr const char* from_dlpack =
    R"doc(from_dlpack(x, /, *, device=None, copy=None)
--

A halfway.Tensor of x's memory.

Args:
    x: as in to_torch.
    device: as in to_torch. Memory on a device that halfway makes is cudaMalloc's own.
    copy: None copies only where it must (byte order, fractional strides, lazily conjugated or negated tensors), False
        raises ExchangeError naming every reason, True always copies.

Returns:
    halfway.Tensor; its ``reasons`` say why memory was copied. Read-only sources give read-only tensors, as do legacy
    capsules, which cannot say. On a CUDA device it is ready on the legacy default stream.

Raises:
    ExchangeError, TypeError: as to_torch. What x exported is released exactly once.

Example:
    >>> import numpy as np, halfway
    >>> halfway.from_dlpack(np.zeros((2, 3), dtype=np.int16))
    halfway.Tensor(shape=(2, 3), dtype=int16)
)doc";

inline constexpr const char* explain =
    R"doc(explain(x, /, dtype=None, *, to="torch", device=None, copy=None, out=None, non_blocking=False, allow_readonly=False, lock_storage=False, report=None, **cast)
--

What to_torch, to_numpy or from_dlpack would do with the same arguments, and why; nothing is done.

Args:
    x: as in to_torch; a capsule is not consumed.
    to: "torch", "numpy" or "halfway".
    dtype, device, copy, out, non_blocking, allow_readonly, lock_storage, report, **cast: as in those functions.

Returns:
    Plan: str() of it for people, to_dict() for programs.

A device= need not be there: the plan is made of assumed figures then, and its `unavailable` says why it cannot be done
here. Where calibrate() has measured the machine, its figures decide.

Raises:
    The same errors as the exchange itself, but those of values (CastError with a report) and of an out= that shares
    memory with x. Arrays that would be returned as they are get explained only if they could be exchanged.

Example:
    >>> import numpy as np, halfway
    >>> plan = halfway.explain(np.zeros(4), "float32")
    >>> plan.zero_copy, plan.reasons
    (False, ('dtype',))
    >>> plan.bytes_read, plan.bytes_written
    (32, 16)
)doc";

inline constexpr const char* num_threads = R"doc(num_threads()
--

How many threads one call may use, the calling one included.

Unless set_num_threads says otherwise: the CPUs that this process may use (its affinity, the quota of its control group)
or OMP_NUM_THREADS, whichever is less; or HALFWAY_NUM_THREADS alone, where the environment has it. Read once, on first
use. 1 in a forked child and in the workers of a torch DataLoader, until the process itself calls set_num_threads.

Results do not depend on it.

Returns:
    int: at least 1.

Example:
    >>> import halfway
    >>> halfway.num_threads() >= 1
    True
)doc";

inline constexpr const char* set_num_threads = R"doc(set_num_threads(n, /)
--

Sets how many threads one call may use, for the whole process. Calls that are running go on as they began.

Args:
    n: at least 1, the calling thread included; more than 1024 counts as 1024. 0 restores the default.

Raises:
    TypeError: n is not an int.
    ValueError: n is negative.

Example:
    >>> import halfway
    >>> halfway.set_num_threads(1)  # the calling thread alone
    >>> halfway.num_threads()
    1
    >>> halfway.set_num_threads(0)
)doc";

inline constexpr const char* register_numpy_dtypes =
    R"doc(register_numpy_dtypes()
--

Teaches numpy.from_dlpack the bfloat16 and fp8 dtypes of ml_dtypes, for every library.

Needs NumPy >= 2.5; called by itself when ml_dtypes is loaded at import, else at the first use of such a dtype, unless
the environment has HALFWAY_REGISTER=0.

Returns:
    int: how many dtypes NumPy now knows; 0 where it is too old.

Example:
    >>> import halfway
    >>> halfway.register_numpy_dtypes() >= 0
    True
)doc";

inline constexpr const char* cast_recipe =
    R"doc(The recipe of a cast: checked once, immutable, hashable, picklable, accepted wherever a dtype is.

Args:
    dtype: the target; as in to_torch.
    casting: what may be asked: "no", "equiv", "safe", "same_kind", "unsafe" in NumPy's sense, or "same_value": any
        pair, but every value must survive.
    overflow: what finite values out of range become: "default" (the format's own answer: infinity, or NaN where there
        is none; int -> int wraps; float -> int saturates), "saturate" (the nearest finite value, for infinities too)
        or "raise" (CastError).
    rounding: "nearest" (even), or "stochastic": up or down by chance, which leaves sums of many values unbiased.
        Float targets alone.
    seed: of stochastic rounding, 0 to 2**64 - 1. The same seed gives the same bits, on every machine.
    scale, shift: the target gets x * scale + shift, rounded once to float32 (to float64 for sources that float32
        does not hold: float64, integers of 32 and 64 bits) and once to the dtype; integer targets round to nearest
        even. A number, or a sequence or array (of any library) of one number for each index along `axis`. Complex
        dtypes have none.
    axis: the axis of the *source* that a scale or shift with more than one number goes along; negative: from the end.
    permute: the result's axes in terms of the source's, as in numpy.transpose. The result is row-major then; nothing
        is copied for it where the memory already is.

Raises:
    ExchangeError: the dtype cannot be exchanged, or permute names an axis twice or one that it has not.
    TypeError, ValueError: wrong arguments, or ones that fit no source together.

Example:
    >>> import numpy as np, halfway
    >>> to_fp8 = halfway.Cast("float8_e4m3fn", overflow="saturate")
    >>> halfway.cast(np.array([1.0, 1000.0], dtype=np.float32), to_fp8).astype(float)
    array([  1., 448.])
)doc";

inline constexpr const char* cast_init =
    R"doc(__init__(self, /, dtype, *, casting='same_kind', overflow='default', rounding='nearest', seed=None, scale=None, shift=None, axis=None, permute=None)
--

See the class.
)doc";

inline constexpr const char* no_arguments_init = R"doc(__init__(self, /)
--

See the class.
)doc";

inline constexpr const char* report =
    R"doc(What a cast lost, counted in the same pass. A report that is used again starts from zero.

A complex element counts once in each column that either part sets. With scale or shift, all columns speak of the
result of the multiply-add: a NaN that it makes counts, too.

Example:
    >>> import numpy as np, halfway
    >>> report = halfway.Report()
    >>> _ = halfway.cast(np.array([1.0, np.nan, 1e-9]), "float16", report=report)
    >>> report.nan, report.underflow, report.inexact
    (1, 1, 1)
)doc";

inline constexpr const char* pending =
    R"doc(A result that may be on its way from a device; made by to_numpy(x, non_blocking=True).

Dropping it without asking for the result is fine: the memory that the device still writes is kept until that is done,
and nobody waits.

Example:
    >>> import halfway
    >>> def later(tensor):                  # of a CUDA tensor
    ...     pending = halfway.to_numpy(tensor, "float32", non_blocking=True)
    ...     ...                             # other work
    ...     return pending.result()
)doc";

inline constexpr const char* pending_ready = R"doc(ready($self, /)
--

Whether result() will not wait for the device.
)doc";

inline constexpr const char* pending_result = R"doc(result($self, /)
--

The result. Waits for it, without the GIL. Asked again, it is the same object, or the same error.

Raises:
    ExchangeError: the device failed.
)doc";

inline constexpr const char* plan =
    R"doc(What an exchange does and why; made by explain().

Example:
    >>> import numpy as np, halfway
    >>> halfway.explain(np.zeros(4, dtype=np.float32)).zero_copy
    True
)doc";

inline constexpr const char* step =
    R"doc(One step of a Plan: "alias" hands out memory, "resolve" lets torch materialise conjugated or negated values, "copy" and
"cast" are one pass each, "ship" goes over the bus between the host and a device.

Example:
    >>> import numpy as np, halfway
    >>> halfway.explain(np.zeros(4), "float32").steps
    (Step(cast, float64 -> float32),)
)doc";

inline constexpr const char* tensor =
    R"doc(An owning DLPack tensor. Made by from_dlpack, fields and cast; read by every DLPack library, by NumPy and, where the
dtype has a format, through the buffer protocol.

The producer's memory is released exactly once, when the last share of it goes, on any thread.

Example:
    >>> import numpy as np, halfway
    >>> tensor = halfway.from_dlpack(np.arange(3.0))
    >>> tensor.shape, tensor.dtype, tensor.readonly
    ((3,), 'float64', False)
    >>> np.asarray(tensor)
    array([0., 1., 2.])
)doc";

inline constexpr const char* tensor_dlpack =
    R"doc(__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)
--

A DLPack capsule (array API standard 2024.12). Versioned if max_version is at least (1, 0), else the legacy struct, which
a read-only tensor refuses. copy=True gives fresh memory, marked as copied.

On a CUDA device, work that is enqueued on `stream` afterwards finds the values: None and 1 are the legacy default
stream, 2 the per-thread one, others are handles, -1 orders nothing, and 0 is a ValueError. dl_device=(1, 0) gives a copy
in host memory.
)doc";

inline constexpr const char* tensor_dlpack_device =
    R"doc(__dlpack_device__($self, /)
--

The (device_type, device_id) pair; (1, 0) is host memory.
)doc";

inline constexpr const char* tensor_array =
    R"doc(__array__($self, dtype=None, /, *, copy=None)
--

A NumPy array over the same memory, or of another dtype by NumPy's rules.
)doc";

}  // namespace halfway::python::docs
