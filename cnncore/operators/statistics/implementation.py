"""Pooling by statistics of all pixels: weighted means, correlations of channels, residuals to cluster centres.

A plane's P pixels are P points with C numbers each, whatever the rank: X is (N, C, P).
"""

import math
from dataclasses import dataclass

import numpy as np

from ...errors import ShapeError
from .. import geometry
from ..arrays.products import product
from ..operator import Implementation, Op

__all__ = ["Attention", "Bilinear", "Covariance", "Strips", "VectorsOfLocallyAggregatedDescriptors"]

# Values that are not finite run through to NaN, which is the answer, without numpy's warnings.
through = np.errstate(all="ignore")


def points(x):
    """X: the pixels of each plane in a row."""
    return np.ascontiguousarray(x.reshape(*x.shape[:2], math.prod(x.shape[2:])))


PIECE = 1 << 20  # values that are worked on together


def pieces(X, hidden=1):
    """(images, cells) of the pieces of X in order: between two of them Ctrl-C is noticed. ``hidden``: numbers of a cell that are
    computed on the way.
    """
    cells = max(PIECE // max(X.shape[1], hidden), RUN)
    images = max(cells // max(X.shape[2], 1), 1)
    for first in range(0, len(X), images):
        for begin in range(0, X.shape[2], cells):
            yield slice(first, first + images), slice(begin, begin + cells)


RUN = 1024  # cells whose products are summed in float32 before they go to a float64 sum


def products(X, Z):
    """Σ xᵢ zᵢᵀ over the cells of each image, in float64; of float32 points by runs of cells."""
    if X.dtype == np.float64:
        return product(X, Z.swapaxes(1, 2))
    total = np.zeros((len(X), X.shape[1], Z.shape[1]))
    for begin in range(0, X.shape[2], RUN):
        total += product(X[:, :, begin : begin + RUN], Z[:, :, begin : begin + RUN].swapaxes(1, 2))
    return total


def check_shape(op, name, found, expected, why):
    """Raise unless an array, where it is given, has the shape that follows from the others."""
    if found is not None and (
        len(found) != len(expected) or any(None not in (a, b) and a != b for a, b in zip(found, expected, strict=True))
    ):
        raise ShapeError(f"{op.name}: {name} has shape {found}; expected {expected}: {why}")


def softmax(s, axis):
    """e^s / Σ e^s, the largest s taken out."""
    e = np.exp(s - s.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_gradient(a, da, axis):
    return a * (da - (a * da).sum(axis=axis, keepdims=True))


def softmax_of_rows(s):
    """``softmax`` along the last axis of two, written into s."""
    largest = s.max(axis=1, keepdims=True)
    for rows, cells in geometry.pieces(s.shape):
        s[rows, cells] = np.exp(s[rows, cells] - largest[rows])
    total = s.sum(axis=1, keepdims=True)
    for rows, cells in geometry.pieces(s.shape):
        s[rows, cells] /= total[rows]
    return s


def softmax_gradient_of_rows(a, da):
    """``softmax_gradient`` along the last axis of two, written into da."""
    mean = np.zeros((len(a), 1))
    for rows, cells in geometry.pieces(a.shape):
        mean[rows] += (a[rows, cells] * da[rows, cells]).sum(axis=1, keepdims=True)
    for rows, cells in geometry.pieces(a.shape):
        da[rows, cells] = a[rows, cells] * (da[rows, cells] - mean[rows])
    return da


def unit(v, axes):
    """(v / ‖v‖, ‖v‖); a vector of zeros stays one."""
    norm = np.sqrt((v * v).sum(axis=axes, keepdims=True))
    return v / np.where(norm == 0, 1, norm), norm


def unit_gradient(u, norm, du, axes):
    """∂(v / ‖v‖): what of du is perpendicular to u, over ‖v‖; 0 for a vector of zeros."""
    return np.where(norm == 0, 0, (du - u * (u * du).sum(axis=axes, keepdims=True)) / np.where(norm == 0, 1, norm))


class Statistics(Implementation):
    """What these operators share: results computed by NumPy and written to where the caller wants them."""

    per_image = True

    def receptive_window(self, call):
        return None

    def put(self, call, needs_gradient, out, *gradients):
        """The gradients that are asked for, in x's dtype, in arrays of their own or in ``out``."""
        results = call.gradients(needs_gradient, out)
        for result, gradient in zip(results, gradients, strict=True):
            if result is not None:
                gradient = gradient.reshape(result.shape)
                for place in geometry.pieces(result.shape):
                    result[place] = gradient[place]
        return results


# ── Attention pooling ── Ilse, Tomczak & Welling 2018, arXiv:1802.04712, eq. 7-9 ───────────────────────────────────────
#
#     tᵢ = tanh(V xᵢ), gated also ⊙ σ(U xᵢ)      sᵢ = wᵀ tᵢ      a = softmax(s)      y = Σ aᵢ xᵢ
#
#     daᵢ = dyᵀ xᵢ      ds = a ⊙ (da − Σ a da)      dw = Σ dsᵢ tᵢ      dxᵢ = aᵢ dy + Vᵀ dpᵢ + Uᵀ dqᵢ
#     dp = w ds σ(U x) (1 − tanh²), dV = Σ dpᵢ xᵢᵀ;      dq = w ds tanh σ (1 − σ), dU = Σ dqᵢ xᵢᵀ


class Attention(Statistics):
    """Attention pooling: the mean of all pixels, weighted by a learned score."""

    saves = ("x", "v", "w", "u")

    def splits_batch(self, call):
        return call.shapes[4] is None  # a mask would have to be cut with x

    def infer(self, op, shapes, dtype, settings):
        x, v, w, u, mask = shapes
        extents = geometry.spatial(op.name, x)
        if len(v) != 2:
            raise ShapeError(f"{op.name}: v has shape {v}; expected (hidden, {x[1]})")
        check_shape(op, "v", v, (v[0], x[1]), f"one number for each of {x[1]} channels")
        check_shape(op, "w", w, (v[0],), f"one number for each row of v {v}")
        check_shape(op, "u", u, v, "that of v")
        check_shape(op, "mask", mask, (x[0], *extents), f"one for every pixel of an image of input {x}")
        if v[0] == 0:
            raise ShapeError(f"{op.name}: v has shape {v}; a score needs at least one row")
        return (x[0], x[1]), None

    @through
    def forward(self, call, arrays, out=None):
        x, v, w, u, mask = arrays
        X = points(x)
        if mask is not None:
            inside = mask.reshape(len(X), X.shape[2])
            X = np.where(inside[:, None], X, 0).astype(call.dtype)
        s = np.empty((len(X), X.shape[2]))
        for images, cells in pieces(X, len(v)):
            t, gate = self.hidden(X[images, :, cells], v, u)
            s[images, cells] = product(w[None].astype(np.float64), t if u is None else t * gate)[:, 0]
        if mask is None:
            a = softmax_of_rows(s)
        else:
            e = np.where(inside, np.exp(s - np.where(inside, s, -np.inf).max(axis=1, keepdims=True)), 0)
            total = e.sum(axis=1, keepdims=True)
            a = e / np.where(total == 0, 1, total)
        y, total = call.empty(out), np.zeros(X.shape[:2])
        for images, cells in pieces(X):
            total[images] += product(X[images, :, cells], a[images, cells, None])[:, :, 0]
        y[...] = total
        weights = a.reshape(x.shape[0], *x.shape[2:]).astype(call.dtype)
        return y, (weights,) if call.settings["return_weights"] else (), (X, v, w, u, a)

    @staticmethod
    def hidden(X, v, u):
        """(tanh(V x), its gate or None) of some cells."""
        gate = None if u is None else np.exp(-np.logaddexp(0, -product(u, X)))
        return np.tanh(product(v, X)), gate

    @through
    def backward(self, call, saved, dy, needs_gradient, out=None):
        X, v, w, u, a = saved
        da, dx = np.empty(a.shape), np.empty(X.shape, X.dtype)
        for images, cells in pieces(X):
            da[images, cells] = product(dy[images, None].astype(np.float64), X[images, :, cells])[:, 0]
        ds = softmax_gradient_of_rows(a, da).astype(call.dtype)
        dv, dw, du = np.zeros(v.shape), np.zeros(len(w)), None if u is None else np.zeros(u.shape)
        for images, cells in pieces(X, len(v)):
            part, share = X[images, :, cells], ds[images, cells]
            t, gate = self.hidden(part, v, u)
            score = w[:, None] * share[:, None]
            dp = score * (1 - t * t) * (1 if gate is None else gate)
            dx[images, :, cells] = dy[images, :, None] * a[images, None, cells].astype(call.dtype) + product(v.T, dp)
            dv += product(dp, part.swapaxes(1, 2)).sum(axis=0, dtype=np.float64)
            if u is not None:
                dq = score * t * gate * (1 - gate)
                dx[images, :, cells] += product(u.T, dq)
                du += product(dq, part.swapaxes(1, 2)).sum(axis=0, dtype=np.float64)
            dw += product((t if gate is None else t * gate).astype(np.float64), share[:, :, None]).sum(axis=(0, 2))
        return self.put(call, needs_gradient, out, dx, dv, dw, du, None)


# ── Strip pooling ── Hou, Zhang, Cheng & Feng 2020, arXiv:2003.13328, eq. 1-5 ──────────────────────────────────────────
#
#     r[h] = mean of row h      q[w] = mean of column w      each through a 1-D convolution, where its weights are given
#     z[h, w] = r[h] + q[w]     y = z, or with gate x ⊙ σ(z)
#
#     dr[h] = Σ_w dz[h, w]      dq[w] = Σ_h dz[h, w], through the convolutions      dx = dr / W + dq / H, with gate + dy ⊙ σ(z)


@dataclass(frozen=True)
class Strips(Statistics):
    """The means of rows and columns, added in every pixel; ``pooling`` is the operator that takes them, with output_size."""

    pooling: Op

    def means(self, x):
        """Means of rows (N, C, H), and of columns (N, C, W)."""
        return self.pooling(x, output_size=(None, 1))[:, :, :, 0], self.pooling(x, output_size=(1, None))[:, :, 0]

    def infer(self, op, shapes, dtype, settings):
        x, w_rows, w_columns = shapes
        geometry.spatial(op.name, x, (2,))
        for name, w in (("w_rows", w_rows), ("w_columns", w_columns)):
            if w is not None:
                size = w[2] if len(w) == 3 else 3
                check_shape(op, name, w, (x[1], x[1], size), "(channels, channels, odd kernel)")
                if size % 2 == 0:
                    raise ShapeError(
                        f"{op.name}: {name} has {size} taps; it must be odd, to have a centre: use {size + 1}"
                    )
        return x, None

    @through
    def forward(self, call, arrays, out=None):
        x, w_rows, w_columns = arrays
        rows, columns = self.means(x)
        y = call.empty(out)
        add_strips(filtered(rows, w_rows), filtered(columns, w_columns), y)
        if not call.settings["gate"]:
            return y, (), (None, w_rows, w_columns, rows, columns, None)
        gate = np.empty_like(y)
        for place in geometry.pieces(y.shape):
            gate[place] = np.exp(-np.logaddexp(0, -y[place]))
            np.multiply(x[place], gate[place], out=y[place])
        return y, (), (x, w_rows, w_columns, rows, columns, gate)

    @through
    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, w_rows, w_columns, rows, columns, gate = saved
        dz = dy
        if gate is not None:
            dz = np.empty_like(gate)
            for place in geometry.pieces(dz.shape):
                dz[place] = dy[place] * x[place] * gate[place] * (1 - gate[place])
        # Each of the W cells of a row has 1/W of its gradient, Σ dz: the mean of dz.
        drows, dcolumns = self.means(dz)
        H, W = call.shapes[0][2:]
        drows, dw_rows = filter_gradients(rows, w_rows, drows, W)
        dcolumns, dw_columns = filter_gradients(columns, w_columns, dcolumns, H)
        results = call.gradients(needs_gradient, out)
        if results[0] is not None:
            add_strips(drows, dcolumns, results[0])
            for place in geometry.pieces(dy.shape) if gate is not None else ():
                results[0][place] += dy[place] * gate[place]
        for result, gradient in zip(results[1:], (dw_rows, dw_columns), strict=True):
            if result is not None:
                result[...] = gradient
        return results


def add_strips(rows, columns, y):
    """Write y[h, w] = rows[h] + columns[w] for every image and channel."""
    for n, c, h, w in geometry.pieces(y.shape):
        np.add(rows[n, c, h, None], columns[n, c, None, w], out=y[n, c, h, w])


def windows_of(a, size):
    """The ``size`` neighbours of each number along the last axis, zeros beyond its ends."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(a, ((0, 0), (0, 0), (size // 2,) * 2)), size, axis=2)


def filtered(a, w):
    """y[n, o, i] = Σ w[o, c, k] a[n, c, i + k − ⌊size/2⌋]; a itself without w."""
    if w is None:
        return a
    O, C, size = w.shape
    windows = windows_of(a, size).transpose(0, 1, 3, 2)  # (N, C, size, extent)
    return product(w.reshape(O, C * size), windows.reshape(len(a), C * size, a.shape[2]))


def filter_gradients(a, w, dy, count):
    """da and dw of ``filtered`` for the gradient ``count`` · dy, da over ``count``: dy filtered by w turned round, and the
    windows of a weighted by dy.
    """
    if w is None:
        return dy, None
    turned = w.swapaxes(0, 1)[:, :, ::-1]
    N, O, extent = dy.shape
    windows = windows_of(a, w.shape[2]).transpose(1, 3, 0, 2)  # (C, size, N, extent)
    terms = N * extent
    dw = product(dy.swapaxes(0, 1).reshape(O, terms), windows.reshape(w[0].size, terms).T)
    return filtered(dy, turned), count * dw.reshape(w.shape)


# ── Covariance pooling ── Li, Xie, Wang & Zuo 2017, arXiv:1703.08050; Li, Xie, Wang & Gao 2018, arXiv:1712.01034 ───────
#
#     P = 1/n Σ (xᵢ − μ)(xᵢ − μ)ᵀ      A = P / tr P      Y₀ = A, Z₀ = 1
#     T = ½ (3 − Z Y)                  Y ← Y T, Z ← T Z, `iterations` times      S = √(tr P) Y → √P      y: S above its diagonal
#
#     backward through one iteration, G and E the gradients of its Y and Z:
#         dT = Yᵀ G + E Zᵀ             dY = G Tᵀ − ½ Zᵀ dT                       dZ = Tᵀ E − ½ dT Yᵀ
#     dX = 1/n (dP + dPᵀ)(X − μ)


class Covariance(Statistics):
    """How the channels vary together, as the square root of their covariance matrix."""

    saves = ("x",)

    def infer(self, op, shapes, dtype, settings):
        geometry.spatial(op.name, shapes[0])
        C = shapes[0][1]
        return (shapes[0][0], None if C is None else C * (C + 1) // 2), None

    @through
    def forward(self, call, arrays, out=None):
        X = points(arrays[0])
        N, C, n = X.shape
        P, mean = np.zeros((N, C, C)), np.zeros((N, C, 1))
        # In float64: rounding in float32 would make the small eigenvalues negative.
        for images, cells in pieces(X):
            mean[images] += X[images, :, cells].astype(np.float64).sum(axis=2, keepdims=True)
        mean /= n
        for images, cells in pieces(X):
            exact = X[images, :, cells] - mean[images]
            P[images] += product(exact, exact.swapaxes(1, 2))
        P /= n
        steps, S = [], P
        trace = np.trace(P, axis1=1, axis2=2)[:, None, None]
        some = np.where(trace == 0, 1, trace)
        if call.settings["iterations"]:
            Y, Z = P / some, np.broadcast_to(np.eye(C), P.shape)
            for _ in range(call.settings["iterations"]):
                T = 0.5 * (3 * np.eye(C) - product(Z, Y))
                steps.append((Y, Z, T))
                Y, Z = product(Y, T), product(T, Z)
            S = np.sqrt(trace) * Y
        y = call.empty(out)
        y[...] = S[:, *np.triu_indices(C)]
        return y, (), (X, mean, P, trace, some, steps, S)

    @through
    def backward(self, call, saved, dy, needs_gradient, out=None):
        X, mean, P, trace, some, steps, S = saved
        C, n = X.shape[1:]
        dP = np.zeros(P.shape)
        dP[:, *np.triu_indices(C)] = dy
        if steps:
            dtrace = (dP * S).sum(axis=(1, 2), keepdims=True) / (2 * some)
            G, E = np.sqrt(trace) * dP, np.zeros(P.shape)
            for Y, Z, T in reversed(steps):
                Yt, Zt, Tt = (matrix.swapaxes(1, 2) for matrix in (Y, Z, T))
                dT = product(Yt, G) + product(E, Zt)
                G = product(G, Tt) - 0.5 * product(Zt, dT)
                E = product(Tt, E) - 0.5 * product(dT, Yt)
            dtrace -= (G * P).sum(axis=(1, 2), keepdims=True) / some**2
            dP = np.where(trace == 0, 0, G / some + dtrace * np.eye(C))
        if needs_gradient[0]:
            factor, mean = ((dP + dP.swapaxes(1, 2)) / n).astype(call.dtype), mean.astype(call.dtype)
            return self.put(call, needs_gradient, out, by_cells(factor, X, mean))
        return (None,)


def by_cells(factor, X, away=None):
    """factor X for each image, of what X is ``away`` from."""
    y = np.empty((len(X), factor.shape[1], X.shape[2]), X.dtype)
    for images, cells in pieces(X, factor.shape[1]):
        part = X[images, :, cells]
        y[images, :, cells] = product(factor[images], part if away is None else part - away[images])
    return y


# ── Bilinear pooling ── Lin, RoyChowdhury & Maji 2015, arXiv:1504.07889, eq. 1-2 and section 3.1 ───────────────────────
#
#     B = 1/n Σ xᵢ zᵢᵀ      s = sign(B) √(|B| + ε)      y = s / ‖s‖
#
#     dB = ds / (2 √(|B| + ε)), 0 at B = 0      dxᵢ = 1/n dB zᵢ      dzᵢ = 1/n dBᵀ xᵢ


class Bilinear(Statistics):
    """Products of all pairs of channels of two images, averaged over the cells."""

    saves = ("x", "z")

    def splits_batch(self, call):
        return call.shapes[1] is None  # z would have to be cut with x

    def infer(self, op, shapes, dtype, settings):
        x, z = shapes
        extents = geometry.spatial(op.name, x)
        if z is not None:
            if len(z) != len(x):
                raise ShapeError(f"{op.name}: z has shape {z}; expected as many dimensions as x {x}")
            check_shape(op, "z", z, (x[0], z[1], *extents), "the images and cells of x, with channels of its own")
            geometry.spatial(op.name, z)
        D = x[1] if z is None else z[1]
        return (x[0], None if None in (x[1], D) else x[1] * D), None

    @through
    def forward(self, call, arrays, out=None):
        X, Z = (None if a is None else points(a) for a in arrays)
        B = products(X, X if Z is None else Z) / X.shape[2]
        settings = call.settings
        root = np.sqrt(np.abs(B) + settings["eps"]) if settings["signed_sqrt"] else None
        s = B if root is None else np.sign(B) * root
        u, norm = unit(s, (1, 2)) if settings["normalize"] else (s, None)
        y = call.empty(out)
        y[...] = u.reshape(y.shape)
        return y, (), (*arrays, B, root, u, norm)

    @through
    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, z, B, root, u, norm = saved
        dB = dy.astype(np.float64).reshape(B.shape)
        if norm is not None:
            dB = unit_gradient(u, norm, dB, (1, 2))
        if root is not None:
            dB = np.where(B == 0, 0, dB / np.where(B == 0, 1, 2 * root))
        X = points(x)
        dB /= X.shape[2]
        if z is None:
            return self.put(call, needs_gradient, out, by_cells((dB + dB.swapaxes(1, 2)).astype(call.dtype), X), None)
        dB = dB.astype(call.dtype)
        return self.put(call, needs_gradient, out, by_cells(dB, points(z)), by_cells(dB.swapaxes(1, 2), X))


# ── NetVLAD ── Arandjelović, Gronat, Torii, Pajdla & Sivic 2016, arXiv:1511.07247, eq. 3-4 ─────────────────────────────
#
#     a = softmax over k of (wₖᵀ xᵢ + bₖ)      Vₖ = Σᵢ aₖᵢ (xᵢ − cₖ)      y = all Vₖ / ‖Vₖ‖, over √(how many are not 0)
#
#     G = dV      daₖᵢ = Gₖᵀ (xᵢ − cₖ)      ds = a ⊙ (da − Σₖ a da)      dw = Σ dsₖᵢ xᵢ      db = Σ dsₖᵢ
#     dxᵢ = Σₖ aₖᵢ Gₖ + Σₖ dsₖᵢ wₖ          dcₖ = −Σᵢ aₖᵢ Gₖ


class VectorsOfLocallyAggregatedDescriptors(Statistics):
    """What the cells near each cluster lie from its centre, all together."""

    saves = ("x", "w", "c", "b")

    def infer(self, op, shapes, dtype, settings):
        x, w, c, b = shapes
        geometry.spatial(op.name, x)
        if len(w) != 2 or w[0] == 0:
            raise ShapeError(f"{op.name}: w has shape {w}; expected (clusters, {x[1]}), one row or more")
        check_shape(op, "w", w, (w[0], x[1]), f"one number for each of {x[1]} channels")
        check_shape(op, "c", c, w, "that of w")
        check_shape(op, "b", b, (w[0],), f"one number for each row of w {w}")
        return (x[0], None if None in w else w[0] * w[1]), None

    @staticmethod
    def assigned(x, w, b):
        """a of some cells; the backward pass computes it again, as with few channels it is much larger than x."""
        s = product(w, x)
        return softmax(s if b is None else s + b[:, None], 1)

    @through
    def forward(self, call, arrays, out=None):
        x, w, c, b = arrays
        X = points(x)
        V, total = np.zeros((len(X), *w.shape)), np.zeros((len(X), len(w), 1))
        for images, cells in pieces(X, len(w)):
            part = X[images, :, cells]
            a = self.assigned(part, w, b)
            V[images] += product(a, part.swapaxes(1, 2))
            total[images] += a.sum(axis=2, dtype=np.float64, keepdims=True)
        V -= total * c
        near = far = None
        if call.settings["normalize"]:
            V, near = unit(V, 2)
            V, far = unit(V, (1, 2))
        y = call.empty(out)
        y[...] = V.reshape(y.shape)
        return y, (), (X, w, c, b, total, V, near, far)

    @through
    def backward(self, call, saved, dy, needs_gradient, out=None):
        X, w, c, b, total, V, near, far = saved
        G = dy.reshape(V.shape)
        if near is not None:
            # V is over ‖V‖ twice; what the first division made of it is V · far.
            G = unit_gradient(V * far, near, unit_gradient(V, far, G, (1, 2)), 2)
        G = G.astype(call.dtype)
        dx, dw, db = np.empty(X.shape, X.dtype), np.zeros(w.shape), np.zeros(len(w))
        for images, cells in pieces(X, len(w)):
            part, slope = X[images, :, cells], G[images]
            a = self.assigned(part, w, b)
            da = product(slope, part) - (slope * c).sum(axis=2, keepdims=True)
            ds = softmax_gradient(a, da, 1)
            dx[images, :, cells] = product(slope.swapaxes(1, 2), a) + product(w.T, ds)
            dw += product(ds, part.swapaxes(1, 2)).sum(axis=0, dtype=np.float64)
            db += ds.sum(axis=(0, 2), dtype=np.float64)
        return self.put(call, needs_gradient, out, dx, dw, -(total * G).sum(axis=0), db)
