/* Ctrl-C: what tasks ask that may take longer than 50 ms. */
#ifndef CNN_STOP_H
#define CNN_STOP_H

#include "threads.h"

enum { CNN_PIECE = 1 << 16 }; /* values between two questions: enough work to hide the clock, too little to be waited for */

/* Counts `values` more, from `left` = CNN_PIECE down. True: return at once, the call is being stopped and nobody will look at
 * what is unfinished. */
static inline int cnn_stop_after(int64_t *left, int64_t values) {
    if ((*left -= values) > 0) return 0;
    *left = CNN_PIECE;
    return cnn_stop_requested();
}

#endif
