"""Blocks that are composed of other operators."""
