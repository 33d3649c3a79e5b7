# Pooling: what a strategy of your own needs. A pair of functions and one line make one (see pool.pyx):
#
#     from cnncore.ops.pool cimport Window, definition, real
#
#     cdef real range_reduce(const real *x, Window *window) noexcept nogil: ...
#     cdef void range_spread(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil: ...
#
#     RANGE = definition("range", <void *> range_reduce[float], <void *> range_reduce[double],
#                        <void *> range_spread[float], <void *> range_spread[double], saves=("x",))

from libc.stdint cimport int64_t, uint64_t

from cnncore.ops.dispatch cimport Tensor, cnn_axis, cnn_pool, cnn_tensor, real

cdef struct Window:
    int64_t n                   # cells inside the image
    int64_t size                # cells inside the image and its padding
    int64_t taps                # cells of a whole kernel
    const int64_t *tap          # [n] position of each cell within the whole kernel
    const double *setting       # numbers of the strategy, in the order of Strategy.numbers; those not named are 0
    const double *parameter     # learned numbers of this window's channel, array after array
    double *gradient            # spread adds dy ∂y/∂parameter here
    double *work                # [2n] for the strategy's own use
    int64_t *order              # [2n] the same, for strategies that need "order"
    int64_t *place              # [n] row-major position of each cell in its plane, for those that need "place"
    int64_t selected            # the cell that y came from, where there is one: written by reduce, read by spread
    bint given                  # `selected` was drawn before (a replay, or the forward pass): do not draw again
    uint64_t seed, position     # what a random strategy draws from: the call's seed, the number of this window in y
    uint64_t plane              # number of the plane, for those that need "place"
    bint refused                # set by reduce where the strategy has no value for these cells

cdef struct Functions:          # by precision: CNN_FLOAT32, CNN_FLOAT64
    void *reduce[2]
    void *spread[2]
    bint ranks, places, may_select_none     # what the strategy needs: "order", "place", to select "none" of the cells
    bint whole                  # its kernel takes the "cells" of a window together (kernels/pool_whole.h)
    bint selects, draws         # and "selects" one, "draws" one: forward leaves its position (kernels/pool_drawn.h)

cdef class Definition:
    """What a strategy does to one window, in both precisions, and the kernels that override the loop over windows."""
    cdef Functions functions
    cdef readonly str name
    cdef readonly tuple saves       # which of "x" and "y" spread reads
    cdef readonly str requires      # what its x must be, for the error where reduce refuses a window
    cdef int forward_kernel, backward_kernel

cdef Definition definition(name, void *reduce_f32, void *reduce_f64, void *spread_f32, void *spread_f64,
                           tuple saves=*, tuple needs=*, str requires=*)

cdef class Numbers:
    cdef tuple settings
    cdef Tensor parameters, drawn
    cdef uint64_t seed, first_window, first_plane

cdef class Windows:
    """The windows of a call: tables per axis (geometry.axes) made ready for C, once for forward and backward."""
    cdef cnn_axis axis[3]
    cdef int64_t cells              # of the largest window
    cdef int64_t positions          # cells of the image
    cdef int slide                  # the first axis with more than a cell or a window
    cdef bint forward               # along it, windows begin and end one after the other
    cdef list tables
