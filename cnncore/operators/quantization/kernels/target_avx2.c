#define TARGET avx2
#define VECTOR_BYTES 32
#include "target.h"
