/* Compiles the 8-bit kernels for one CPU target; target_<name>.c defines TARGET and VECTOR_BYTES and includes this file. */
#include <stddef.h>
#include <string.h>

#include "byte_calls.h"

#define JOIN3_(a, b, c) a##_##b##_##c
#define JOIN3(a, b, c) JOIN3_(a, b, c)
#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

#define REAL float
#define REAL_BITS 32
#define INTEGER int32_t
#define LANES (VECTOR_BYTES / 4)
#define K(name) JOIN3(name, TARGET, u8)
#include "kernels/simd.h"

#include "bytes.h"

const cnn_byte_kernels JOIN3(cnn, byte_kernels, TARGET) = {
    .name = TEXT(TARGET),
    .lanes = LANES,
    .conv = K(quantized_conv),
    .depthwise = K(quantized_depthwise),
    .quantize = K(quantize_bytes),
    .has_byte_dots = K(has_byte_dots),
};
