"""Gathering, scattering, sorting and counting."""
