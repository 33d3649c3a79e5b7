#define TARGET neon
#define VECTOR_BYTES 16
#include "target.h"
