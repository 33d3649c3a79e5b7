/* The tables of 8-bit kernels by the name of their CPU target, which kernels/dispatch.c chooses. */
#include <stddef.h>
#include <string.h>

#include "byte_calls.h"

extern const cnn_byte_kernels cnn_byte_kernels_baseline;
#if defined(CNN_X86)
extern const cnn_byte_kernels cnn_byte_kernels_avx2;
extern const cnn_byte_kernels cnn_byte_kernels_avx512;
#elif defined(CNN_ARM)
extern const cnn_byte_kernels cnn_byte_kernels_neon;
#endif

static const cnn_byte_kernels *const tables[] = {
    &cnn_byte_kernels_baseline,
#if defined(CNN_X86)
    &cnn_byte_kernels_avx2,
    &cnn_byte_kernels_avx512,
#elif defined(CNN_ARM)
    &cnn_byte_kernels_neon,
#endif
};

const cnn_byte_kernels *cnn_byte_kernels_of(const char *target) {
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (strcmp(tables[i]->name, target) == 0) return tables[i];
    return NULL;
}
