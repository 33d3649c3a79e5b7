/* Copies between layouts: contiguous runs where both sides agree, else blocks of LANES × LANES transposed in registers. */

static inline void K(copy_run)(REAL *dst, const REAL *src, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) K(store)(dst + i, K(load)(src + i));
    if (i < count) K(store_tail)(dst + i, K(load_tail)(src + i, count - i), count - i);
}

/* row[j][i] = row[i][j] */
ALWAYS_INLINE void K(transpose_registers)(vreal *row) {
#pragma GCC unroll 4
    for (int m = 1; m < LANES; m *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if ((i & m) == 0) K(exchange)(&row[i], &row[i + m], m);
}

/* dst[j, i] = src[i, j] for LANES × LANES values; rows of both are contiguous. */
static inline void K(transpose_block)(REAL *dst, int64_t dst_row, const REAL *src, int64_t src_row) {
    vreal row[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) row[i] = K(load)(src + i * src_row);
    K(transpose_registers)(row);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) K(store)(dst + i * dst_row, row[i]);
}

/* dst[j, i] = src[i, j] for fewer rows than a vector has lanes: RGB planes become RGB pixels. */
ALWAYS_INLINE void K(interleave)(
    REAL *restrict dst, const REAL *restrict src, int64_t src_row, const int rows, int64_t columns
) {
    for (int64_t j = 0; j < columns; j++)
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) dst[j * rows + i] = src[i * src_row + j];
}

/* dst[j, i] = src[i, j]: src has `rows` contiguous rows of `columns` values, dst `columns` rows. */
static void K(transpose)(REAL *dst, int64_t dst_row, const REAL *src, int64_t src_row, int64_t rows, int64_t columns) {
    if (rows == dst_row && (rows == 2 || rows == 3 || rows == 4)) {
        if (rows == 2) K(interleave)(dst, src, src_row, 2, columns);
        if (rows == 3) K(interleave)(dst, src, src_row, 3, columns);
        if (rows == 4) K(interleave)(dst, src, src_row, 4, columns);
        return;
    }
    const int64_t whole_rows = rows / LANES * LANES, whole_columns = columns / LANES * LANES;
    for (int64_t i = 0; i < whole_rows; i += LANES)
        for (int64_t j = 0; j < whole_columns; j += LANES)
            K(transpose_block)(dst + j * dst_row + i, dst_row, src + i * src_row + j, src_row);
    for (int64_t i = 0; i < whole_rows; i++)
        for (int64_t j = whole_columns; j < columns; j++) dst[j * dst_row + i] = src[i * src_row + j];
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = whole_rows; i < rows; i++) dst[j * dst_row + i] = src[i * src_row + j];
}

/* dst[j, i] = src[i, j] for LANES rows of fewer than LANES columns, when LANES values may be read from each row. */
static inline void K(transpose_narrow)(REAL *dst, const REAL *src, int64_t src_row, int64_t columns) {
    vreal row[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) row[i] = K(load)(src + i * src_row);
    K(transpose_registers)(row);
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++)
        if (j < columns) K(store)(dst + j * LANES, row[j]);
}

/* dst[i, j] = src[i, j] for any strides: row i, column j. */
static void K(transfer)(
    REAL *dst, int64_t dst_row, int64_t dst_column, const REAL *src, int64_t src_row, int64_t src_column, int64_t rows,
    int64_t columns
) {
    if (dst_column == 1 && src_column == 1) {
        if (dst_row == columns && src_row == columns) {
            K(copy_run)(dst, src, rows * columns);
            return;
        }
        for (int64_t i = 0; i < rows; i++) K(copy_run)(dst + i * dst_row, src + i * src_row, columns);
    } else if (dst_row == 1 && src_row == 1) {
        for (int64_t j = 0; j < columns; j++) K(copy_run)(dst + j * dst_column, src + j * src_column, rows);
    } else if (dst_row == 1 && src_column == 1) {
        K(transpose)(dst, dst_column, src, src_row, rows, columns);
    } else if (dst_column == 1 && src_row == 1) {
        K(transpose)(dst, dst_row, src, src_column, columns, rows);
    } else {
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) dst[i * dst_row + j * dst_column] = src[i * src_row + j * src_column];
    }
}

static inline void K(fill_zero)(REAL *dst, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) K(store)(dst + i, (vreal){0});
    for (; i < count; i++) dst[i] = 0;
}

/* Tasks are rows (n, d, h): all channels and columns of each. */
static void K(copy_layout)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_copy *v = call;
    const int64_t *size = v->src.shape, *from = v->src.stride, *to = v->dst.stride;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t h = task % size[3], d = task / size[3] % size[2], n = task / size[3] / size[2];
        K(transfer)(
            (REAL *)v->dst.data + n * to[0] + d * to[2] + h * to[3], to[4], to[1],
            (const REAL *)v->src.data + n * from[0] + d * from[2] + h * from[3], from[4], from[1], size[4], size[1]
        );
    }
}
