/* The calls of 8-bit kernels, and the table of them that each CPU target has. They are compiled apart from the others, once per
 * target: nothing of them depends on whether the real numbers of a net have 32 or 64 bits. */
#ifndef CNN_BYTE_CALLS_H
#define CNN_BYTE_CALLS_H

#include "calls.h"

/* A convolution: y = clip(round(factor (bias + Σ w x)) + zero point), as integers.pyx has it. */
typedef struct {
    cnn_tensor x; /* uint8, in the kernels with channels innermost */
    cnn_tensor y; /* uint8 if y_bytes, else real: the numbers for which they stand, or, on no grid, factor · sum */
    int64_t groups, taps[3], stride[3], dilation[3], low[3];
    int64_t outputs, inputs; /* of one group */
    const int8_t *w;         /* (groups, outputs, taps, inputs) */
    const void *panels;      /* w as the kernels read it: see Weights in convolution.py */
    const int32_t *bias;     /* [groups outputs] less zero point · Σ w; the kernels' vectors may read two of them more */
    const void *factor;      /* real [groups outputs], likewise */
    int64_t zero;            /* of x */
    int64_t on_grid, y_bytes, y_zero;
    double y_scale;
    int64_t positions;              /* of y in an image */
    int64_t blocks, ranges;         /* into which the positions, and the units of outputs, are cut */
    int64_t word_terms, words, row; /* terms of a word, words of a window, words from window to window in scratch */
    int (*stop)(void);              /* whether the call is being stopped */
} cnn_byte_conv;

/* From real numbers to bytes: y = clip(round(x / scale) + zero). */
typedef struct {
    cnn_tensor x, y;
    double scale;
    int64_t zero;
    int (*stop)(void);
} cnn_byte_values;

typedef struct {
    const char *name; /* of the target */
    int64_t lanes;    /* 32-bit numbers per vector */
    cnn_task conv, depthwise, quantize;
    int (*has_byte_dots)(void); /* whether this processor multiplies four bytes at a time */
} cnn_byte_kernels;

const cnn_byte_kernels *cnn_byte_kernels_of(const char *target); /* NULL: there are none, run the reference implementation */

#endif
