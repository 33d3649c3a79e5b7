"""Pooling of statistics: covariance, bilinear, attention."""
