"""Graphs of operators, and the nets that are built from them: structure ← graph ← surgery ← net ← build."""
