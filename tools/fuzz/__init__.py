"""The fuzzer: hostile calls, nets, files, failing allocations and killed trainings, each in a process of its own."""
