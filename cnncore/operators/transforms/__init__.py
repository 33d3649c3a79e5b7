"""Pooling in transformed coordinates: wavelets, spectra, blurs."""
