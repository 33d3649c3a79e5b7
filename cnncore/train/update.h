/* Optimizers: a parameter, its gradient and its state in one pass. The reference implementations, with their formulas, are in
 * train/update.pyx. */

/* Loads or stores `lanes` values that are `step` apart. */
static inline vreal K(load_apart)(const REAL *p, int64_t step, int64_t lanes) {
    if (step == 1) return lanes == LANES ? K(load)(p) : K(load_tail)(p, lanes);
    REAL part[LANES] = {0};
    for (int64_t l = 0; l < lanes; l++) part[l] = p[l * step];
    return K(load)(part);
}
static inline void K(store_apart)(REAL *p, int64_t step, vreal v, int64_t lanes) {
    if (step == 1 && lanes == LANES) {
        K(store)(p, v);
        return;
    }
    REAL part[LANES];
    K(store)(part, v);
    for (int64_t l = 0; l < lanes; l++) p[l * step] = part[l];
}

typedef struct {
    vreal w, first, second; /* the parameter and its state */
} K(updated);
typedef K(updated) (*K(step))(K(updated) old, vreal g, const vreal *s, int nesterov);

static inline K(updated) K(sgd_step)(K(updated) old, vreal g, const vreal *s, int nesterov) {
    g += s[CNN_DECAY] * old.w;
    old.first = s[CNN_MOMENTUM] * old.first + g;
    if (nesterov) old.w -= s[CNN_RATE] * (g + s[CNN_MOMENTUM] * old.first);
    else old.w -= s[CNN_RATE] * old.first;
    return old;
}

static inline K(updated) K(adam_step)(K(updated) old, vreal g, const vreal *s, int nesterov) {
    (void)nesterov;
    old.w *= s[CNN_SHRINK];
    g += s[CNN_DECAY] * old.w;
    old.first = s[CNN_BETA_1] * old.first + s[CNN_REST_1] * g;
    old.second = s[CNN_BETA_2] * old.second + s[CNN_REST_2] * g * g;
    old.w -= s[CNN_RATE] * old.first / (K(square_root)(old.second) * s[CNN_SCALE] + s[CNN_EPS]);
    return old;
}

/* Tasks are blocks of CNN_UPDATE_BLOCK values. */
ALWAYS_INLINE void K(update)(const cnn_update *call, int64_t begin, int64_t end, K(step) step) {
    const cnn_elementwise *a = &call->arrays;
    const int64_t size = a->size < end * CNN_UPDATE_BLOCK ? a->size : end * CNN_UPDATE_BLOCK;
    vreal s[CNN_UPDATE_NUMBERS];
    for (int i = 0; i < CNN_UPDATE_NUMBERS; i++) s[i] = K(splat)((REAL)call->number[i]);
    for (int64_t i = begin * CNN_UPDATE_BLOCK, count; i < size; i += count) {
        cnn_offsets at;
        count = cnn_row(a, i, size, &at);
        const int64_t w_step = a->y.stride[4], g_step = a->x.stride[4], m_step = a->dy.stride[4], v_step = a->p.stride[4];
        const REAL *g = (const REAL *)a->x.data + at.x;
        REAL *w = (REAL *)a->y.data + at.y;
        REAL *m = a->dy.data == NULL ? NULL : (REAL *)a->dy.data + at.dy,
             *v = a->p.data == NULL ? NULL : (REAL *)a->p.data + at.p;
        for (int64_t j = 0; j < count; j += LANES) {
            const int64_t lanes = count - j < LANES ? count - j : LANES;
            K(updated) now = {K(load_apart)(w + j * w_step, w_step, lanes), {0}, {0}};
            if (m != NULL) now.first = K(load_apart)(m + j * m_step, m_step, lanes);
            if (v != NULL) now.second = K(load_apart)(v + j * v_step, v_step, lanes);
            now = step(now, K(load_apart)(g + j * g_step, g_step, lanes), s, call->nesterov);
            K(store_apart)(w + j * w_step, w_step, now.w, lanes);
            if (m != NULL) K(store_apart)(m + j * m_step, m_step, now.first, lanes);
            if (v != NULL) K(store_apart)(v + j * v_step, v_step, now.second, lanes);
        }
    }
}

static void K(sgd_update)(void *call, int64_t begin, int64_t end, void *scratch) {
    (void)scratch;
    K(update)(call, begin, end, K(sgd_step));
}
static void K(adam_update)(void *call, int64_t begin, int64_t end, void *scratch) {
    (void)scratch;
    K(update)(call, begin, end, K(adam_step));
}
