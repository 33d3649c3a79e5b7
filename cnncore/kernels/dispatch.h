/* Which kernels exist, and which CPU target's version of them runs. */
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

/* Targets are numbered from the plainest to the most able. Number 0, "definition", has no kernels: definitions run. */
int cnn_target_count(void);
const char *cnn_target_name(int target);
int cnn_target_supported(int target);       /* compiled in, and both CPU and operating system can run it */
int cnn_target_current(void);
void cnn_target_select(int target);

const char *cnn_kernel_name(int kernel);
int cnn_kernel_number(const char *name);    /* -1: no such kernel */
cnn_task cnn_kernel(int kernel, int precision);    /* of the current target; NULL: let the definition run */
int cnn_kernel_taken(int kernel);           /* whether cnn_kernel has returned it since this was last asked */
int64_t cnn_lanes(int precision);           /* of the current target; 1 for "definition" */

#endif
