"""Choice of kernels, threads, memory, random numbers, and the cache of recent calls."""
