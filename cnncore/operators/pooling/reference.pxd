# Pooling: the interface of a strategy of your own, which is a pair of functions and one line (see reference.pyx):
#
#     from cnncore.operators.pooling.reference cimport Window, reference, real
#
#     cdef real range_forward(const real *x, Window *window) noexcept nogil: ...
#     cdef void range_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil: ...
#
#     RANGE = reference("range", <void *> range_forward[float], <void *> range_forward[double],
#                       <void *> range_backward[float], <void *> range_backward[double], saves=("x",))

from libc.stdint cimport int64_t, uint64_t

from cnncore.runtime.dispatch cimport Tensor, cnn_axis, cnn_pool, cnn_tensor, real

cdef struct Window:
    int64_t n                   # cells inside the image
    int64_t size                # cells inside the image and its padding
    int64_t taps                # cells of the whole kernel
    const int64_t *tap          # [n] position of each cell within the whole kernel
    const double *setting       # settings of the strategy, in the order of Strategy.numbers; others are 0
    const double *parameter     # learned numbers of this window's channel, array after array
    double *gradient            # backward accumulates dy ∂y/∂parameter here
    double *work                # [n] scratch of the strategy, if it needs "cells"
    int64_t *order              # [2n] the same, for strategies that need "order"
    int64_t *place              # [n] row-major position of each cell in its plane, for those that need "place"
    int64_t selected            # the cell that y came from, if there is one: set by forward, read by backward
    bint given                  # `selected` was drawn before (a replay, or the forward pass): do not draw again
    uint64_t seed, position     # of a random strategy: the call's seed, and the window's number in y as its counter
    uint64_t plane              # number of the plane, for those that need "place"
    bint refused                # set by forward if the strategy is undefined for these cells

cdef struct Functions:          # by precision: CNN_FLOAT32, CNN_FLOAT64
    void *forward[2]
    void *backward[2]
    bint ranks, places, may_select_none     # `needs`: "order", "place", or that it may select "none" of the cells
    bint whole                  # `needs` "cells": its kernel takes those of a window together (pool_whole.h)
    int streams                 # it takes cells one by one, without memory: 1 "forward", 2 in "both" passes
    bint selects, draws         # it "selects" a cell, whose position forward stores, or "draws" it (pool_drawn.h)

cdef class Reference:
    """A strategy's functions in both precisions, and the kernels that replace the loop over windows."""
    cdef Functions functions
    cdef readonly str name
    cdef readonly tuple saves       # which of "x" and "y" backward reads
    cdef readonly str requires      # what x must be, for the error if forward refuses a window
    cdef int forward_kernel, backward_kernel

cdef Reference reference(name, void *forward_f32, void *forward_f64, void *backward_f32, void *backward_f64,
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
