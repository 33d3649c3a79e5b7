"""Joins of branches."""
