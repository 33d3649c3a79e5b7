/* The structs of calls: everything about one operator call, with all extents known and checked.
 *
 * Python infers the shapes, Cython fills in the struct, and the reference implementation (Cython) and the kernel (C) read
 * the same one: both are task functions, so a kernel replaces the reference by a pointer.
 *
 * A task function computes tasks begin <= i < end of a call. Which thread runs a task does not matter: tasks are partitioned
 * by the shapes alone and every output element belongs to one task, so the result does not depend on the number of threads.
 * `scratch` is private to the running worker.
 */
#ifndef CNN_CALLS_H
#define CNN_CALLS_H

#include <stdint.h>

typedef void (*cnn_task)(void *call, int64_t begin, int64_t end, void *scratch);

/* An array as (N, C, D, H, W); strides count elements, not bytes. The layout is its strides:
 * channels last means stride[1] == 1, plain NCHW stride[4] == 1. Missing spatial axes have extent 1. */
typedef struct {
    void *data;
    int64_t shape[5];
    int64_t stride[5];
} cnn_tensor;

/* The windows of a pooling along one axis, as tables by output index, so that windows from kernel, stride and padding,
 * adaptive, global and fractional windows are handled alike. The cells of a window are first + i * step, 0 <= i < count. */
typedef struct {
    const int64_t *first;  /* [output] first cell inside the image */
    const int64_t *count;  /* [output] cells inside the image, >= 1 */
    const int64_t *tap;    /* [output] position of the first cell within the kernel */
    const int64_t *extent; /* [output] cells inside the image and its padding: what count_include_pad divides by */
    int64_t output;        /* number of windows along the axis */
    int64_t input;         /* extent of the image along the axis */
    int64_t kernel;        /* cells of a whole window, padding included */
    int64_t step;          /* dilation */
} cnn_axis;

enum { CNN_POOL_REFUSED_CELLS = 1, CNN_POOL_REFUSED_STATE = 2 }; /* why a strategy is undefined for some window */
enum { CNN_POOL_RANKED = 64 };                                   /* the largest window, in cells, that kernels rank */
enum { CNN_POOL_VECTORS = 4 }; /* adjacent vectors of channels that a pooling kernel processes together */

typedef struct {
    cnn_axis axis[3];   /* D, H, W */
    cnn_tensor x, y;    /* forward: reads x, writes y */
    cnn_tensor dx, dy;  /* backward: reads x, y, dy, writes dx (every element) */
    cnn_tensor indices; /* int64: position of the selected cell within its plane; data == NULL if not needed */
    cnn_tensor drawn;   /* int64: positions to select instead of drawing them; data == NULL: draw */
    double setting[8];  /* settings of the strategy: p, alpha, ... */
    /* [parameter_rows, parameters] learned numbers; plane n C + c has row (n C + c) % parameter_rows */
    const double *parameter;
    double *gradient; /* backward: [planes, parameters] contribution of each plane to their gradients */
    int64_t parameters, parameter_rows;
    const void *strategy; /* functions of the reference implementation; not used by kernels */
    int64_t cells;        /* of the largest window */
    uint64_t seed;
    uint64_t first_window, first_plane; /* numbers of the first window and plane, as counters of the random numbers */
    int refused;                        /* set by tasks: 0, or why */
    int accumulate;                     /* backward: accumulate into dx instead of writing it */
    int learns;                         /* backward: whether `gradient` is needed */
    int64_t whole_scratch;              /* where in scratch, in bytes, the part of pool_whole.h begins */
    /* How the kernels partition the call (see pool.h): tasks on channels in place, then tasks on packed planes. */
    int64_t in_place;      /* channels read in place, a multiple of LANES; the others are packed */
    int64_t vectors;       /* in place: vectors of channels per task; backward of strategies that draw: channels per task */
    int64_t strip, strips; /* in place, forward: windows of the sliding axis per task, and tasks along it */
    int64_t tasks_in_place;
    int64_t slide; /* the sliding axis: the first one with more than a cell or a window */
    int64_t band;  /* packed: its windows per band */
    int64_t span;  /* packed: the most cells along it that the windows of a band cover */
} cnn_pool;

/* Convolution: y[n, k, o] = b[k] + sum over c, t of w[k, c, t] x[n, c, stride o + dilation t - low].
 *
 * The same fields hold arrays and gradients: conv_forward reads x, w, b and writes y; conv_backward_input reads y (as dy) and
 * w and writes x (as dx); conv_backward_weight reads x and y (as dy) and writes w (as dw); conv_backward_bias reads y (as dy)
 * and writes b (as db). A transposed convolution is the same primitives in another order; its bias belongs to x. */
typedef struct {
    int64_t groups;
    int64_t stride[3], dilation[3], low[3]; /* D, H, W */
    cnn_tensor x, y;
    cnn_tensor w;        /* (K, C / groups, kd, kh, kw) */
    cnn_tensor b;        /* one per channel of what is written; data == NULL: none */
    double lower, upper; /* y (or, transposed, x) is clamped to [lower, upper]; −∞ and ∞: not */
} cnn_conv;

/* What the convolution kernels run: a correlation of x with packed weights, per axis
 *
 *     y[n, k, o] = b[k] + sum over t, c of panels[t, c, k] x[n, c, stride o + step t + first]       outside the image x is 0
 *
 * Forward is one correlation. The gradient of the input is one for each residue of the pixel modulo the stride, with dy as x, the
 * taps of that residue as kernel, and every stride-th pixel of dx as y. The gradient of the weights reads x and y (as dy) and
 * writes w. A task is a tile of outputs (images × rows × columns of one depth) and a range of units; a unit is a panel: the
 * output channels of one group that fill two vectors. */
typedef struct {
    cnn_tensor x, y;
    cnn_tensor w;    /* (outputs, inputs of a group, taps): what conv_planes reads, conv_weights writes */
    int64_t w_group; /* from the weights of a group to those of the next */
    int64_t groups;
    int64_t taps[3], stride[3], step[3], first[3];
    const void *panels; /* from conv_pack */
    const void *bias;   /* from conv_pack, or NULL; for conv_planes plain, bias_stride apart */
    int64_t bias_stride;
    double lower, upper;                 /* fused activation: y is clamped to [lower, upper]; −∞ and ∞: not */
    int64_t accumulate;                  /* 1: y +=, channels innermost */
    int64_t images, rows, columns;       /* a tile; for Winograd `columns` is the number of its tiles in a task */
    int64_t form[2];                     /* Winograd: number in cnn_winograd_axes, for H and W */
    const unsigned char *skip;           /* Winograd: 1 for each tile that is not written; NULL: all are */
    int64_t units, unit_count;           /* of a task, in all */
    int64_t channel_blocks, term_blocks; /* conv_weights: tasks that share the terms of a unit, by inputs and by terms */
    int64_t first_task, tasks;
    int64_t x_bytes, y_bytes, sum_bytes; /* sizes of the parts of scratch */
} cnn_correlation;

typedef struct {
    const cnn_correlation *part;
    int64_t parts;
} cnn_correlations;

/* Winograd's minimal filtering along one axis (winograd.h): windows of `taps` pixels, `stride` apart, in tiles of `outputs`, by
 * interpolation at the points 0 (where `zero`), ±point for each pair, and ∞. */
typedef struct {
    int outputs, taps, stride, zero, pairs;
    double point[3];
} cnn_winograd_axis;

enum { CNN_F23, CNN_F43, CNN_F25, CNN_F45, CNN_F42, CNN_WINOGRAD_AXES };
static const cnn_winograd_axis cnn_winograd_axes[CNN_WINOGRAD_AXES] = {
    [CNN_F23] = {2, 3, 1, 1, 1, {1}},
    [CNN_F43] = {4, 3, 1, 1, 2, {2.0 / 3, 3.0 / 2}},
    [CNN_F25] = {2, 5, 1, 1, 2, {2.0 / 3, 3.0 / 2}},
    [CNN_F45] = {4, 5, 1, 1, 3, {0.44, 1, 2}},
    [CNN_F42] = {4, 3, 2, 0, 2, {0.4, 1.29}}, /* 2 taps of every second pixel, 1 tap of the others */
};

static inline int cnn_winograd_points(const cnn_winograd_axis *a) { return a->zero + 2 * a->pairs + 1; }

/* Taps that pixels of a parity meet. */
static inline int cnn_winograd_taps(const cnn_winograd_axis *a, int parity) {
    return (a->taps + a->stride - 1 - parity) / a->stride;
}

/* Transformed inputs along the axis, and matrices of transformed weights: of a single tap there is one for all points. */
static inline int cnn_winograd_inputs(const cnn_winograd_axis *a) {
    return a->stride * cnn_winograd_points(a) - (a->stride - 1);
}
static inline int cnn_winograd_matrices(const cnn_winograd_axis *a) {
    return a->stride == 1 ? cnn_winograd_points(a)
                          : cnn_winograd_points(a) + (cnn_winograd_taps(a, 1) == 1 ? 1 : cnn_winograd_points(a) - 1);
}

/* An axis of outputs in whole tiles and, behind them, shorter ones with one output less, of which little hangs over its end. */
static inline void cnn_winograd_cut(const cnn_correlation *p, int axis, int64_t *whole, int64_t *shorter) {
    const int64_t outputs = cnn_winograd_axes[p->form[axis]].outputs, tiles = (p->y.shape[3 + axis] + outputs - 1) / outputs;
    const int64_t spare = tiles * outputs - p->y.shape[3 + axis];
    *shorter = spare < tiles ? spare : tiles;
    *whole = tiles - *shorter;
}

/* Tiles lie in four groups, so that those with a point of both axes follow one another: (shorter, whole), (whole, whole),
 * (whole, shorter), (shorter, shorter). The number of the first tile of a group; of group 4, how many tiles there are. */
static inline int64_t cnn_winograd_start(const cnn_correlation *p, int group) {
    int64_t h[2], w[2], tiles = 0;
    cnn_winograd_cut(p, 0, &h[0], &h[1]);
    cnn_winograd_cut(p, 1, &w[0], &w[1]);
    for (int g = 0; g < group; g++) tiles += h[g == 0 || g == 3] * w[g >= 2];
    return p->y.shape[0] * p->y.shape[2] * tiles;
}

typedef struct {
    int64_t n, d, h, w;    /* its first output */
    int64_t rows, columns; /* outputs, as far as they exist */
    int shorter[2];
} cnn_winograd_tile;

static inline cnn_winograd_tile cnn_winograd_tile_of(const cnn_correlation *p, int64_t tile) {
    const int64_t planes = p->y.shape[0] * p->y.shape[2];
    int64_t count[2][2], at[2];
    cnn_winograd_tile t = {.n = 0};
    cnn_winograd_cut(p, 0, &count[0][0], &count[0][1]);
    cnn_winograd_cut(p, 1, &count[1][0], &count[1][1]);
    for (int g = 0; g < 4; g++) {
        t.shorter[0] = g == 0 || g == 3;
        t.shorter[1] = g >= 2;
        const int64_t tiles = planes * count[0][t.shorter[0]] * count[1][t.shorter[1]];
        if (tile < tiles) break;
        tile -= tiles;
    }
    const int64_t W = count[1][t.shorter[1]], H = count[0][t.shorter[0]];
    t.n = tile / W / H / p->y.shape[2];
    t.d = tile / W / H % p->y.shape[2];
    at[0] = tile / W % H;
    at[1] = tile % W;
    for (int axis = 0; axis < 2; axis++) {
        const int64_t outputs = cnn_winograd_axes[p->form[axis]].outputs, extent = p->y.shape[3 + axis];
        const int64_t first = at[axis] * (outputs - t.shorter[axis]) + (t.shorter[axis] ? count[axis][0] * outputs : 0);
        const int64_t left = extent - first, size = outputs - t.shorter[axis];
        *(axis ? &t.w : &t.h) = first;
        *(axis ? &t.columns : &t.rows) = left < size ? left : size;
    }
    return t;
}

/* For each pixel (n, d, h, w) of x the largest absolute value of its channels; infinity where one is not a finite number. */
typedef struct {
    cnn_tensor x;
    double *largest;
} cnn_largest;

/* Linear layers of few rows: y = x w' + b, dx = dy w, dw = dy' x. Elements of a row are neighbours. */
enum { CNN_LINEAR_VECTORS = 4, CNN_LINEAR_TERMS = 64, CNN_LINEAR_ROWS = 16 };
typedef struct {
    void *x, *w, *y;                     /* or dx; or dw; or dy */
    const void *b;                       /* b_step apart; NULL: none */
    int64_t x_row, w_row, y_row, b_step; /* from row to row */
    int64_t rows, features, outputs;
    double lower, upper; /* y is clamped to [lower, upper] */
} cnn_linear;

/* Packing of weights: panels[group, unit, td, th, tw, c, lane], zeros where a panel is wider than its group. Strides are those
 * of the caller's weights and may be negative: a flipped kernel has negative strides. */
typedef struct {
    const void *w, *b;                        /* b == NULL: none */
    int64_t groups, outputs, inputs, taps[3]; /* outputs and inputs of one group */
    int64_t shared;                           /* 1: the groups share units, for the depthwise kernels */
    int64_t form[2];                          /* Winograd: number in cnn_winograd_axes, for H and W */
    int64_t group_stride, output_stride, input_stride, tap_stride[3], bias_stride;
    void *panels, *bias;
} cnn_pack;

/* Windows one by one: of the image x, into y (their columns, or what is computed from them); backward the same, as dx and dy.
 * The columns of deformable windows have an entry for channel c of group c / inputs, cell t: number
 * (c / inputs) taps inputs + t inputs + c % inputs, so that the channels of a cell are contiguous. */
typedef struct {
    cnn_tensor x, y, w, b;
    cnn_tensor offset, mask, doffset, dmask; /* data == NULL: none */
    int64_t kernel[3], stride[3], dilation[3], low[3], output[3];
    int64_t taps;   /* cells of a window */
    int64_t groups; /* of channels: of a convolution, or those that share offsets */
    int64_t inputs; /* channels of a group of the convolution after deformed windows */
    int64_t block;  /* deform_backward_input: channels of a task */
} cnn_windows;

/* dst[i] = src[i] for arrays of one shape and any strides. */
typedef struct {
    cnn_tensor src, dst;
} cnn_copy;

/* y = sum of coefficient[j] x[j], or y += that. A task is a block of CNN_SUM_BLOCK values if every image is contiguous, with
 * the same order of the axes in all arrays; otherwise a row (n, :, d, h, :). */
enum { CNN_SUM_BLOCK = 4096 };
typedef struct {
    const cnn_tensor *x;
    const double *coefficient;
    int64_t count;
    cnn_tensor y;
    int64_t more;       /* 1: y += */
    int64_t contiguous; /* values of a contiguous image; 0: tasks are rows */
} cnn_sum;

/* Padding: per axis D, H, W which input cell each output holds, and which outputs hold each input cell. */
typedef struct {
    cnn_tensor x, y;          /* or dx and dy */
    const int64_t *source[3]; /* [output extent] input cell, or -1: `value` */
    const int64_t *first[3];  /* [input extent + 1] where the cells' targets begin in ... */
    const int64_t *target[3]; /* ... the outputs that hold each input cell, in order */
    double value;
    /* Along W: the longest run of outputs that copy adjacent cells, and of cells that adjacent outputs copy once. */
    int64_t run_source, run_target, run;
    int64_t once_source, once_target, once;
} cnn_pad;

/* One array of an elementwise call: its first element, and its strides along the call's axes. */
typedef struct {
    void *data;
    int64_t stride[5];
} cnn_strided;

/* Elementwise: y = f(x). The axes are those of y from its largest stride to its smallest, merged where every array allows it;
 * missing axes come first, with extent 1. Two contiguous arrays are one row. */
typedef struct {
    int64_t size; /* number of elements: the tasks */
    int64_t extent[5];
    cnn_strided x, dy;
    cnn_strided p; /* replaces setting[0], one per channel; data == NULL: none */
    cnn_strided y; /* forward: y = f(x); backward: dx = dy f'(x) is written here */
    double setting[4];
} cnn_elementwise;

/* Offsets of one element in the arrays of an elementwise call. */
typedef struct {
    int64_t x, dy, p, y;
} cnn_offsets;

/* The offsets of element i; returns how many elements from i on are in the same row and before `end`. */
static inline int64_t cnn_row(const cnn_elementwise *call, int64_t i, int64_t end, cnn_offsets *at) {
    int64_t rest = call->extent[4] - i % call->extent[4], left = i;
    *at = (cnn_offsets){0, 0, 0, 0};
    for (int axis = 4; axis >= 0 && left > 0; axis--) {
        int64_t place = left % call->extent[axis];
        left /= call->extent[axis];
        at->x += place * call->x.stride[axis];
        at->dy += place * call->dy.stride[axis];
        at->p += place * call->p.stride[axis];
        at->y += place * call->y.stride[axis];
    }
    return rest < end - i ? rest : end - i;
}

/* Gradients of an activation with a learned number p per channel. A task is a plane of one channel of one image or, if
 * channels are innermost (`pixels` > 0), that many adjacent pixels of all channels. */
typedef struct {
    cnn_tensor x, dy, dx;
    const void *p;
    int64_t p_stride; /* 0: one number for all channels */
    double *partial;  /* [tasks] or [tasks][C]: each task's contribution to dp */
    int64_t pixels;
    double setting[4];
} cnn_channelwise;

/* Softmax along one axis: a column is the values along it, `columns` the other axes. */
typedef struct {
    cnn_elementwise columns;
    int64_t length;                  /* extent of the axis */
    int64_t x_step, dy_step, y_step; /* stride of the axis in columns.x, columns.dy, columns.y */
    int logarithm;                   /* y = log softmax(x) */
    int negative;                    /* of −x in place of x */
    int64_t scratch_bytes;
} cnn_softmax;

/* Maxout: channel c of y is the maximum of the channels c pieces ... c pieces + pieces - 1 of x. A task is a plane of y or, if
 * channels are innermost (`pixels` > 0), that many adjacent pixels. */
typedef struct {
    cnn_tensor x, y, dy, dx;
    int64_t pieces;
    int64_t pixels;
} cnn_maxout;

/* Normalisation by statistics of sets of planes. A plane (n, c) is split into `blocks` blocks of `block` cells, the last one
 * shorter; a task is one block of one plane or, if channels are innermost, of all channels of an image.
 *
 *     moments      first = mean of the block, second = sum of (x - mean)^2
 *     transform    y = scale (x - center) + shift
 *     sums         first = sum of dy, second = sum of dy (x - center)
 *     gradient     dx = scale dy + slope (x - center) + shift
 */
typedef struct {
    cnn_tensor x, y, dy, dx; /* for kernels as (N, C, 1, 1, cells) */
    int64_t channels_last;
    int64_t block, blocks;
    const void *center, *scale, *shift, *slope; /* REAL, per image and channel */
    int64_t image_step;                         /* from image to image in these: C, or 0 if all images share them */
    double *first, *second;                     /* (N, blocks, C) */
} cnn_norm;

/* Local response normalisation: y = x s^-beta with s = k + alpha sum of x^2 over channels c - before ... c + after. A task is
 * `block` cells of all channels of an image. If a square leaves REAL's range, the kernel hands the task to `reference`. */
typedef struct {
    cnn_tensor x, y, dy, dx; /* for kernels as (N, C, 1, 1, cells) */
    int64_t channels_last;
    int64_t block, blocks; /* cells in one task; tasks per image */
    int64_t before, after;
    double alpha, beta, k;
    cnn_task reference;
} cnn_lrn;

/* The offset of cell number i of all images, planes in row-major order. */
static inline int64_t cnn_cell(const cnn_tensor *t, int64_t i) {
    int64_t offset = 0;
    for (int axis = 4; axis > 1 && i > 0; axis--) {
        offset += i % t->shape[axis] * t->stride[axis];
        i /= t->shape[axis];
    }
    return offset + i * t->stride[0];
}

enum { CNN_LOSS_CELLS = 32, CNN_LOSS_BLOCK = 4096 };

/* Softmax cross-entropy over the classes (axis 1) of every cell. A task is a block of CNN_LOSS_CELLS cells, of the reference
 * implementation one cell. Label smoothing: `smoothing` is distributed over all classes, the rest goes to the target. */
typedef struct {
    cnn_tensor x, dx;           /* dx.data == NULL: not needed */
    cnn_tensor labels, dlabels; /* probabilities of the classes, like x; data == NULL: none */
    const int64_t *classes;     /* [images cells] class numbers; negative: ignored; NULL: labels are given */
    const double *weight;       /* [classes]; NULL: 1 */
    double smoothing;
    double *largest, *log_sum; /* [images cells] max x and log sum of e^(x - max x): forward writes, backward reads them */
    double *loss;              /* [images cells] */
    const double *dloss;       /* dL / d loss, dloss_step apart */
    int64_t dloss_step;
    int64_t cells; /* of an image */
} cnn_cross_entropy;

/* Squared differences of x and p; tasks are blocks of CNN_LOSS_BLOCK elements. */
typedef struct {
    cnn_elementwise arrays; /* p: the target; y: the squares, or in backward the gradient */
    double *sums;           /* [tasks] sums of squares; NULL: y is written */
    double scale;
} cnn_squared_error;

/* An optimizer's update of one parameter: y = w and the state dy, p (data == NULL: none) are updated in place, x is the
 * gradient. Numbers that an optimizer does not have are not read. */
enum { CNN_UPDATE_BLOCK = 16384 };
enum {
    CNN_RATE,
    CNN_DECAY,
    CNN_MOMENTUM,
    CNN_BETA_1,
    CNN_REST_1,
    CNN_BETA_2,
    CNN_REST_2,
    CNN_SCALE,
    CNN_EPS,
    CNN_SHRINK,
    CNN_UPDATE_NUMBERS
};
typedef struct {
    cnn_elementwise arrays;
    double number[CNN_UPDATE_NUMBERS];
    int nesterov;
} cnn_update;

/* Dropout: y = scale x + shift where the mask is 1, else fill. */
typedef struct {
    cnn_tensor x, y; /* or dy and dx */
    uint8_t *mask;   /* one per value or per channel, in row-major order */
    int per_channel;
    int64_t block, blocks; /* cells in a task; tasks per image */
    int64_t size;          /* of the mask */
    double p;
    uint64_t seed;
    double scale, shift, fill;
} cnn_dropout;

/* Uniform random numbers: values[i] = low + (high - low) uniform(seed, i). A task is a pair of adjacent values. */
typedef struct {
    void *values;
    int64_t size;
    uint64_t seed;
    double low, high;
} cnn_between;

/* Pooling by computed weights: from a second image, or from the distance of a cell to its surroundings. */
typedef struct {
    cnn_axis axis[3];
    int64_t cells; /* of the largest window */
    cnn_tensor x, y, dx, dy;
    cnn_tensor logit, dlogit;    /* local importance; dlogit.data may be NULL, as dx.data may */
    const double *alpha, *power; /* [channels] detail preserving: weights are e^alpha + (r / mean r)^(e^power) */
    const double *filter;        /* [channels][taps] of the low-pass, or NULL: the window's mean */
    double *dalpha, *dpower;     /* [images][channels] */
    double *dfilter;             /* [images][channels][taps], or NULL */
    int64_t taps[3];             /* of the filter: 3, or 1 for missing axes */
    double eps;
    int64_t symmetric;
    int64_t in_place; /* channels read in place, a multiple of LANES; the others are packed */
} cnn_weighted;

/* RoI align: samples on a grid within each bin of the boxes. A task of the kernels is CNN_BOXES_CHANNELS channels of a box or,
 * backward, of an image. */
enum { CNN_BOXES_CHANNELS = 64 };
typedef struct {
    cnn_tensor x, y;   /* or dx and dy */
    cnn_tensor values; /* backward of the maximum: x */
    int64_t count;
    const int64_t *image; /* [count] the image of each box */
    const double *box;    /* [count][4] first row and column, height and width of a bin */
    const int64_t *grid;  /* [count][2] rows and columns of samples in a bin */
    int64_t most;         /* the most samples of a box along an axis */
    int64_t maximum;
} cnn_boxes;

/* Resampling along an axis: which inputs each output sums, and their weights. */
typedef struct {
    const int64_t *first;  /* [output extent + 1] first tap of each output in ... */
    const int64_t *source; /* ... the inputs */
    const double *weight;  /* ... and their weights */
} cnn_taps;
typedef struct {
    cnn_tensor x, y; /* or dy and dx, with the transposed taps */
    cnn_taps taps[3];
    int64_t channels_last; /* 1: channels are innermost in both; 0: columns are */
} cnn_resample;

/* Products of matrices, y = x z over the last two axes; along the others x and z have stride 0 where they are broadcast. A task
 * is a block of y; scratch holds CNN_MATRIX_TERMS terms of as many columns and rows. */
enum { CNN_MATRIX_TERMS = 160 };
typedef struct {
    cnn_tensor x, z, y;
    int64_t rows, columns; /* of a block; columns fill pairs of vectors */
} cnn_matrices;

/* Independent chains of multiply-adds, s = s factor + addend: a measurement of the peak rate. */
typedef struct {
    int64_t steps;
    double factor, addend;
    double *total, *count; /* [tasks] the sum of all s of a task; how many multiply-adds it did */
} cnn_multiply_adds;

#endif
