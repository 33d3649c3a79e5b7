#define TARGET avx512
#define VECTOR_BYTES 64
#include "target.h"
