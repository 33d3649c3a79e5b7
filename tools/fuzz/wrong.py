"""What parts of the fuzzer raise when they have found something."""


class Wrong(Exception):
    """A call that gave something else than it had to."""
