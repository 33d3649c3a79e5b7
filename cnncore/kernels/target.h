/* Compiles every kernel body once per precision for one CPU target and collects them in the target's table.
 *
 * target_<name>.c defines TARGET and VECTOR_BYTES and includes this file; setup.py gives each of them its compiler flags.
 * Everything is static except the table, so that the linker cannot merge a function compiled for one CPU with another's.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "dispatch.h"
#include "stop.h"

#define JOIN3_(a, b, c) a##_##b##_##c
#define JOIN3(a, b, c) JOIN3_(a, b, c)

#define REAL float
#define REAL_BITS 32
#define INTEGER int32_t
#define LANES (VECTOR_BYTES / 4)
#define K(name) JOIN3(name, TARGET, f32)
#include "bodies.h"
static const cnn_task K(kernels)[CNN_KERNEL_COUNT] = {
#define KERNEL(name) [CNN_##name] = K(name),
#include "kernels.inc"
#undef KERNEL
};
#undef REAL
#undef REAL_BITS
#undef INTEGER
#undef LANES
#undef K
#undef vreal
#undef vmask
#undef vwide
#undef WIDE

#define REAL double
#define REAL_BITS 64
#define INTEGER int64_t
#define LANES (VECTOR_BYTES / 8)
#define K(name) JOIN3(name, TARGET, f64)
#include "bodies.h"
static const cnn_task K(kernels)[CNN_KERNEL_COUNT] = {
#define KERNEL(name) [CNN_##name] = K(name),
#include "kernels.inc"
#undef KERNEL
};

const cnn_target JOIN3(cnn, target, TARGET) = {
    .lanes = {VECTOR_BYTES / 4, VECTOR_BYTES / 8},
    .kernels = {JOIN3(kernels, TARGET, f32), JOIN3(kernels, TARGET, f64)},
};
