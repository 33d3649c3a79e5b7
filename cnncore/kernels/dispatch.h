/* Which kernels exist, and the CPU target whose versions of them run. */
#ifndef CNN_DISPATCH_H
#define CNN_DISPATCH_H

#include "calls.h"

enum {
#define KERNEL(name) CNN_##name,
#include "kernels.inc"
#undef KERNEL
    CNN_KERNEL_COUNT
};

enum { CNN_FLOAT32, CNN_FLOAT64 };

typedef struct {
    int64_t lanes[2];           /* REALs per vector, by precision */
    const cnn_task *kernels[2]; /* by precision, then by CNN_<kernel> */
} cnn_target;

/* Targets are numbered from the least to the most capable. Number 0 has no kernels: the reference implementations run. */
int cnn_target_count(void);
const char *cnn_target_name(int target);
int cnn_target_supported(int target); /* compiled in, and supported by CPU and operating system */
int cnn_target_current(void);
void cnn_target_select(int target);

const char *cnn_kernel_name(int kernel);
int cnn_kernel_number(const char *name);        /* -1: no such kernel */
cnn_task cnn_kernel(int kernel, int precision); /* of the current target; NULL: run the reference implementation */
int cnn_kernel_taken(int kernel);               /* whether cnn_kernel has returned it since the last such call */
int64_t cnn_lanes(int precision);               /* of the current target; 1 if it has no kernels */

#endif
