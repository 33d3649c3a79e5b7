"""A network explained on one page: its graph, and what each node makes of one image, forward and backward."""

from .page import page, write_page

__all__ = ["page", "write_page"]
