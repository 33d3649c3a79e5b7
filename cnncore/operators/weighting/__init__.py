"""Pooling with learned or computed weights."""
