# Activations: a pair f, f' by precision (CNN_FLOAT32, CNN_FLOAT64), and the kernels that replace the loops over them.

from cnncore.runtime.dispatch cimport Tensor, cnn_elementwise


cdef class Activation:
    cdef void *value[2]
    cdef void *slope[2]
    cdef void *parameter_slope[2]
    cdef readonly str name
    cdef int forward_kernel, backward_kernel, channels_kernel

cdef Activation activation(
    name, void *value_f32, void *value_f64, void *slope_f32, void *slope_f64)
cdef void merge_axes(cnn_elementwise *call, Tensor X, Tensor DY, Tensor P, Tensor Y, int without=*)
