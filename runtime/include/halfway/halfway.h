// Everything of the runtime.
#pragma once

#include "halfway/allocator.h"
#include "halfway/cast.h"
#include "halfway/collate.h"
#include "halfway/convert.h"
#include "halfway/dlpack.h"
#include "halfway/dtype.h"
#include "halfway/error.h"
#include "halfway/layout.h"
#include "halfway/npy.h"
#include "halfway/parallel.h"
#include "halfway/plan.h"
#include "halfway/rounding.h"
#include "halfway/tensor.h"
#include "halfway/validate.h"
