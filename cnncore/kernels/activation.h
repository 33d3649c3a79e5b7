/* Activations, LANES values at a time. Definitions with their formulas: ops/activation.pyx. */
