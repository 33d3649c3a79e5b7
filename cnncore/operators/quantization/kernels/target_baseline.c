#define TARGET baseline
#define VECTOR_BYTES 16
#include "target.h"
