/* Target selection: a table of pointers to the targets' tables. See dispatch.h. */
#include "dispatch.h"

#include <stddef.h>
#include <string.h>

extern const cnn_target cnn_target_baseline;
#if defined(CNN_X86)
extern const cnn_target cnn_target_avx2;
extern const cnn_target cnn_target_avx512;
#elif defined(CNN_ARM)
extern const cnn_target cnn_target_neon;
#endif

static int always(void) { return 1; }

#if defined(CNN_X86)
/* __builtin_cpu_supports reads CPUID and, for the vector registers' state, what the operating system saves (XGETBV). */
static int has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#if defined(CNN_EMULATED_AVX512)
static int has_avx512(void) { return has_avx2(); }
#else
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif
#endif

static const struct {
    const char *name;
    const cnn_target *target;
    int (*supported)(void);
} targets[] = {
    {"reference", NULL, always},
    {"baseline", &cnn_target_baseline, always},
#if defined(CNN_X86)
    {"avx2", &cnn_target_avx2, has_avx2},
    {"avx512", &cnn_target_avx512, has_avx512},
#elif defined(CNN_ARM)
    {"neon", &cnn_target_neon, always},
#endif
};

static const char *const kernel_names[] = {
#define KERNEL(name) #name,
#include "kernels.inc"
#undef KERNEL
};

static int current = 1;

int cnn_target_count(void) { return (int)(sizeof targets / sizeof targets[0]); }
const char *cnn_target_name(int target) { return targets[target].name; }
int cnn_target_supported(int target) { return targets[target].supported(); }
int cnn_target_current(void) { return __atomic_load_n(&current, __ATOMIC_RELAXED); }
void cnn_target_select(int target) { __atomic_store_n(&current, target, __ATOMIC_RELAXED); }

const char *cnn_kernel_name(int kernel) { return kernel >= 0 && kernel < CNN_KERNEL_COUNT ? kernel_names[kernel] : NULL; }

int cnn_kernel_number(const char *name) {
    for (int kernel = 0; kernel < CNN_KERNEL_COUNT; kernel++)
        if (strcmp(kernel_names[kernel], name) == 0) return kernel;
    return -1;
}

static unsigned char taken[CNN_KERNEL_COUNT];

cnn_task cnn_kernel(int kernel, int precision) {
    const cnn_target *target = targets[cnn_target_current()].target;
    if (target == NULL || kernel < 0 || target->kernels[precision][kernel] == NULL) return NULL;
    __atomic_store_n(&taken[kernel], 1, __ATOMIC_RELAXED);
    return target->kernels[precision][kernel];
}

int cnn_kernel_taken(int kernel) { return __atomic_exchange_n(&taken[kernel], 0, __ATOMIC_RELAXED); }

int64_t cnn_lanes(int precision) {
    const cnn_target *target = targets[cnn_target_current()].target;
    return target != NULL ? target->lanes[precision] : 1;
}
