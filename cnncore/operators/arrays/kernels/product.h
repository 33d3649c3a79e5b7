/* Products of matrices: y[i, j] = Σ_k x[i, k] z[k, j] over the last two axes, by the multiplication of gemm.h. The reference
 * implementation is in products.pyx.
 *
 * A task is a block of one y. CNN_MATRIX_TERMS terms at a time, its columns of z are packed into panels and its rows of x side by
 * side, which then lie in the second-level cache whatever the distance between the rows of a matrix, which often is a power of
 * two. Where a block ends does not matter to any sum. */

/* The first element of matrix number `matrix` of those in y. */
static inline REAL *K(matrix)(const cnn_tensor *t, const int64_t *size, int64_t matrix) {
    return (REAL *)t->data + matrix / size[2] / size[1] * t->stride[0] + matrix / size[2] % size[1] * t->stride[1]
        + matrix % size[2] * t->stride[2];
}

/* `count` terms of the columns of z, in panels of `count` rows each. A few terms of all columns at a time: their rows are read
 * from end to end. */
static void K(pack_columns)(const cnn_matrices *c, const REAL *z, int64_t columns, int64_t count, REAL *panels) {
    const int64_t wide = 2 * LANES, row = c->z.stride[3], column = c->z.stride[4], step = row == 1 ? 8 * LANES : 8;
    const int64_t rest = columns % wide;
    if (rest && rest != LANES) K(fill_zero)(panels + columns / wide * wide * count, (rest > LANES ? wide : LANES) * count);
    for (int64_t k = 0; k < count; k += step)
        for (int64_t j = 0; j < columns; j += wide) {
            const int64_t filled = K(smaller)(wide, columns - j), width = filled > LANES ? wide : LANES;
            K(transfer)(
                panels + j * count + k * width, width, 1, z + k * row + j * column, row, column, K(smaller)(step, count - k),
                filled
            );
        }
}

/* `count` terms of the rows of x, `count` apart. */
static void K(pack_rows)(const cnn_matrices *c, const REAL *x, int64_t rows, int64_t count, REAL *packed) {
    const int64_t row = c->x.stride[3], term = c->x.stride[4], step = term == 1 ? count : 8;
    for (int64_t k = 0; k < count; k += step)
        K(transfer)(packed + k, count, 1, x + k * term, row, term, rows, K(smaller)(step, count - k));
}

/* Terms first to first + count of a block of y; all but the first are added to what y holds. */
static void K(multiply_block)(
    const cnn_matrices *c, const REAL *x, const REAL *z, REAL *y, int64_t rows, int64_t columns, int64_t first, int64_t count,
    REAL *scratch
) {
    const int64_t wide = 2 * LANES, start = 0;
    REAL *panels = scratch, *packed = scratch + c->columns * CNN_MATRIX_TERMS;
    x += first * c->x.stride[4];
    K(pack_columns)(c, z + first * c->z.stride[3], columns, count, panels);
    K(product) product = {
        .row = c->x.stride[3],
        .step = 1,
        .offset = &start,
        .runs = 1,
        .length = count,
        .y_row = c->y.stride[3],
        .accumulate = first > 0
    };
    if (columns > wide || c->x.stride[4] != 1) {
        K(pack_rows)(c, x, rows, count, packed);
        product.row = count;
        x = packed;
    }
    const int64_t blocks = K(row_blocks)(rows, product.row);
    for (int64_t j = 0; j < columns; j += wide) {
        product.columns = K(smaller)(wide, columns - j);
        product.panel = panels + j * count;
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t i = K(block_start)(block, blocks, rows), height = K(block_start)(block + 1, blocks, rows) - i;
            product.a = x + i * product.row;
            product.y = y + i * product.y_row + j;
            K(multiply)(&product, (int)height, product.columns > LANES ? 2 : 1);
        }
    }
}

static void K(multiply_matrices)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_matrices *c = call;
    const int64_t *size = c->y.shape, terms = c->x.shape[4];
    const int64_t across = (size[4] + c->columns - 1) / c->columns, down = (size[3] + c->rows - 1) / c->rows;
    int64_t left = CNN_PIECE;
    for (int64_t task = begin; task < end; task++) {
        const int64_t j = task % across * c->columns, i = task / across % down * c->rows, matrix = task / across / down;
        const int64_t rows = K(smaller)(c->rows, size[3] - i), columns = K(smaller)(c->columns, size[4] - j);
        const REAL *x = K(matrix)(&c->x, size, matrix) + i * c->x.stride[3];
        const REAL *z = K(matrix)(&c->z, size, matrix) + j * c->z.stride[4];
        REAL *y = K(matrix)(&c->y, size, matrix) + i * c->y.stride[3] + j;
        for (int64_t k = 0; k < terms; k += CNN_MATRIX_TERMS) {
            K(multiply_block)(c, x, z, y, rows, columns, k, K(smaller)(CNN_MATRIX_TERMS, terms - k), scratch);
            if (cnn_stop_after(&left, rows * columns + rows + columns)) return;
        }
    }
}
