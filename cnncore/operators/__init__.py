"""What an operator is, and a folder per family: reference implementation, implementation, schemas, kernels."""
