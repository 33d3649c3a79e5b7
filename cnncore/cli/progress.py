"""Terminal output: a progress line, redrawn at most ten times a second; errors in one line."""

import shutil
import time

__all__ = ["ProgressLine", "bar", "clock", "one_line"]

SECONDS_BETWEEN = 0.1
EIGHTHS = " ▏▎▍▌▋▊▉"


class ProgressLine:
    """The last line of a terminal. With ``shown=None`` it is shown if the stream is a terminal.

    >>> import io
    >>> out = io.StringIO()
    >>> with ProgressLine(out) as line:
    ...     line.show("1 of 2")
    >>> out.getvalue()                                  # no terminal: nothing
    ''
    >>> with ProgressLine(out, shown=True) as line:
    ...     line.show("1 of 2")
    ...     line.show("2 of 2")                         # too soon after the first
    >>> out.getvalue()
    '\\r\\x1b[K1 of 2\\r\\x1b[K'
    """

    def __init__(self, stream, shown=None):
        self.stream = stream
        self.shown = stream.isatty() if shown is None else shown
        self.drawn = -SECONDS_BETWEEN
        self.dirty = False

    def show(self, text):
        """Draw the line, at most ten times a second. If ``text`` is a function, it is called only when the line is drawn."""
        now = time.monotonic()
        if not self.shown or now - self.drawn < SECONDS_BETWEEN:
            return
        self.drawn, self.dirty = now, True
        text = text() if callable(text) else text
        width = shutil.get_terminal_size().columns - 1  # a full line would wrap, and no longer be one line
        self.stream.write(f"\r\033[K{text[:width]}")
        self.stream.flush()

    def clear(self):
        """Remove the line, so that ordinary output can follow."""
        if self.dirty:
            self.stream.write("\r\033[K")
            self.stream.flush()
            self.dirty = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.clear()


def bar(fraction, width=20):
    """A bar of ``width`` characters.

    >>> bar(0.5, 4), bar(1.0, 4)
    ('██  ', '████')
    """
    eighths = round(8 * width * min(max(fraction, 0.0), 1.0))
    full, part = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[part] if part else "")).ljust(width)


def clock(seconds):
    """Seconds as minutes and hours.

    >>> clock(7.4), clock(75), clock(3661)
    ('0:07', '1:15', '1:01:01')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def one_line(error):
    """The error's text in one line; OSErrors name the file first, like all other errors."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    if isinstance(error, MemoryError):
        return f"out of memory{f' ({error})' if str(error) else ''}; use a smaller image size or batch size"
    return " ".join(str(error).split())
