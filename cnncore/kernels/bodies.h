/* Every kernel body, in the order of their dependence. Included once per target and precision: no include guards below. */
#include "simd.h"
#include "maths.h"
#include "activation.h"
#include "layout.h"
#include "gemm.h"
#include "conv.h"
#include "norm.h"
#include "pool.h"
