"""A cache of recent calls: from the arguments of a call straight to its checked form.

operator.py checks the arguments of a call and infers the shapes. The result depends only on the shape and element type
of each array and on the value of each setting. It is cached for a few calls of each operator, so that the next equal
call is not checked again.

Settings are distinguished by type and value: 2, 2.0 and True are equal in Python, but not every setting takes all
three, and a list or an array may have been modified by the next call. :class:`Recent` compares immutable objects by
identity; :func:`setting_key` returns a key for other objects that have a value.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release
from libc.stdint cimport int64_t

import numpy

cdef extern from "Python.h":
    int get_buffer "PyObject_GetBuffer"(object array, Py_buffer *buffer, int flags) noexcept
    void clear_error "PyErr_Clear"()

cdef enum:
    MOST_ARGUMENTS = 8
    MOST_AXES = 5
    MOST_CALLS = 8          # cached per operator

cdef int64_t made = 0       # how often forget_calls was called

cdef object NDARRAY = numpy.ndarray
cdef object ARRAY = object()            # marks an argument of which only shape and type matter


cdef struct Form:
    char code               # of the element type in the buffer protocol
    int axes
    int64_t shape[MOST_AXES]


cdef bint form_of(array, Form *form) noexcept:
    """Shape and type of a numpy array that calls use without conversion: native byte order, aligned, strides of whole elements.

    Arrays of numbers other than floats are used without conversion only if they are contiguous.
    """
    cdef Py_buffer buffer
    cdef int axis
    cdef bint taken = False
    if type(array) is not NDARRAY:
        return False
    if get_buffer(array, &buffer, PyBUF_STRIDES | PyBUF_FORMAT) < 0:
        clear_error()
        return False
    form.code, form.axes = buffer.format[0], buffer.ndim
    if buffer.ndim <= MOST_AXES and form.code and buffer.format[1] == 0 and <size_t> buffer.buf % buffer.itemsize == 0:
        taken = form.code == b"f" or form.code == b"d" or PyBuffer_IsContiguous(&buffer, b"C")
        for axis in range(buffer.ndim):
            form.shape[axis] = buffer.shape[axis]
            taken = taken and buffer.strides[axis] % buffer.itemsize == 0
    PyBuffer_Release(&buffer)
    return taken


cdef bint same_form(const Form *a, const Form *b) noexcept:
    cdef int axis
    if a.code != b.code or a.axes != b.axes:
        return False
    for axis in range(a.axes):
        if a.shape[axis] != b.shape[axis]:
            return False
    return True


cdef bint unchanging(value):
    """Whether an object is immutable, so that its identity determines the setting."""
    kind = type(value)
    if kind is tuple:
        for part in value:
            if not unchanging(part):
                return False
        return True
    return value is None or kind is int or kind is float or kind is bool or kind is str


cdef enum:
    MOST_NESTED = 8         # sequences within sequences

cdef frozenset NUMPY_NUMBERS = frozenset(
    kind for kind in numpy.sctypeDict.values() if issubclass(kind, (numpy.number, numpy.bool_))
)


def setting_key(value, int depth=0):
    """The value of a setting as a dictionary key: equal only for values of the same types and digits; None for other objects.

    >>> from cnncore.runtime.recent import setting_key
    >>> setting_key((2, 2)) == setting_key((2, 2.0)), setting_key(0.0) == setting_key(-0.0), setting_key([2]) == setting_key([2])
    (False, False, True)
    """
    kind = type(value)
    if value is None or kind is int or kind is bool or kind is str:
        return kind, value
    if kind is float:
        return kind, value.hex()
    if kind in NUMPY_NUMBERS:
        return kind, value.tobytes()
    if (kind is not tuple and kind is not list) or depth == MOST_NESTED:
        return None
    parts = [kind]
    for part in value:
        key = setting_key(part, depth + 1)
        if key is None:
            return None
        parts.append(key)
    return tuple(parts)


def frozen_setting(value, int depth=0):
    """An immutable form of ``value``: lists become tuples, arrays become read-only copies or numbers."""
    if isinstance(value, (list, tuple)) and depth < MOST_NESTED:
        parts = []
        for part in value:
            parts.append(frozen_setting(part, depth + 1))
        return tuple(parts)
    if not isinstance(value, NDARRAY):
        return value
    if value.ndim == 0:
        return value[()]
    value = value.copy()
    value.flags.writeable = False
    return value


cdef class Bound:
    """One call: the properties of its arguments, and its checked form."""
    cdef int count                      # arguments by position
    cdef Form form[MOST_ARGUMENTS]      # of those that are arrays; the others:
    cdef tuple constants                # by position, the arrays as ARRAY
    cdef tuple names, values            # settings
    cdef tuple left_out                 # None for every omitted optional array
    cdef int arrays                     # the first of the arguments are arrays of the call, or None; settings follow
    cdef object call, needs_gradient


def forget_calls():
    """What descriptions of calls depend on besides their arguments has changed: the costs of algorithms."""
    global made
    made += 1


def generation():
    """A number that :func:`forget_calls` changes: part of the key of whatever keeps descriptions of calls."""
    return made


cdef class Recent:
    """The recent calls of one operator."""
    cdef list calls
    cdef int64_t generation

    def __cinit__(self):
        self.calls = []
        self.generation = made

    def find(self, tuple arguments, dict settings):
        """(arrays, call, needs_gradient) as cached for an equal call, or None."""
        cdef Form form[MOST_ARGUMENTS]
        cdef bint taken[MOST_ARGUMENTS]
        cdef Py_ssize_t count = len(arguments), i
        cdef Bound bound
        if count > MOST_ARGUMENTS:
            return None
        if self.generation != made:
            self.calls, self.generation = [], made
        for i in range(count):
            taken[i] = form_of(arguments[i], &form[i])
        for bound in self.calls:
            if bound.count == count and fits(bound, arguments, settings, form, taken):
                if bound.arrays < count:
                    arguments = arguments[:bound.arrays]
                if bound.left_out is not None:
                    arguments += bound.left_out
                return arguments, bound.call, bound.needs_gradient
        return None

    def keep(self, tuple arguments, dict settings, arrays, call, needs_gradient):
        """Cache a call, if the next equal one can be recognised by the properties of its arguments."""
        cdef Bound bound = Bound()
        cdef Py_ssize_t count = len(arguments), i
        if count > MOST_ARGUMENTS or not all(map(unchanging, settings.values())):
            return
        bound.count, bound.arrays = count, min(count, len(arrays))
        constants = []
        for i in range(count):
            if i < bound.arrays and arguments[i] is not arrays[i]:
                return              # it was converted
            if i < bound.arrays and form_of(arguments[i], &bound.form[i]):
                constants.append(ARRAY)
            elif unchanging(arguments[i]):
                constants.append(arguments[i])
            else:
                return
        bound.constants = tuple(constants)
        bound.names, bound.values = tuple(settings), tuple(settings.values())
        if len(arrays) > count:
            if any(array is not None for array in arrays[count:]):
                return
            bound.left_out = (None,) * (len(arrays) - count)
        bound.call, bound.needs_gradient = call, needs_gradient
        self.calls.insert(0, bound)
        del self.calls[MOST_CALLS:]


cdef bint fits(Bound bound, tuple arguments, dict settings, const Form *form, const bint *taken):
    """Whether a call has the properties of the cached one."""
    cdef Py_ssize_t i
    for i in range(bound.count):
        if taken[i]:
            if bound.constants[i] is not ARRAY or not same_form(&form[i], &bound.form[i]):
                return False
        elif bound.constants[i] is not arguments[i]:
            return False
    if len(settings) != len(bound.names):
        return False
    i = 0
    for name, value in settings.items():
        if name is not bound.names[i] or value is not bound.values[i]:
            return False
        i += 1
    return True


def is_ready(array, tuple shape, dtype):
    """Whether ``array`` is a numpy array of this shape and type that calls use without conversion."""
    cdef Form form
    cdef int axis
    if not form_of(array, &form) or form.axes != len(shape) or form.code != (<str> dtype.char)[0]:
        return False
    for axis in range(form.axes):
        if form.shape[axis] != <int64_t> shape[axis]:
            return False
    return True
