"""What ``python tools/dev.py`` does, one file per kind of task."""
