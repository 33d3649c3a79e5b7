"""Which kernel computes a call, on which threads, in what memory; random numbers; calls remembered."""
