"""The site in a browser."""

import functools
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tasks.process import ROOT, run

FOLDER = ROOT / "build" / "browser"
HERE = ROOT / "tools" / "browser"
# Of every kind of page one.
PAGES = (
    "index.html", "operators.html", "operators/pooling.html", "operators/conv.html", "operators/pad.html", "glossary.html",
    "guides/student.html", "lecture/max_pooling.html", "lecture/zoo.html", "lecture/strided.html", "lecture/activations.html",
    "lecture/inception.html",
    "performance.html", "search.html",
)  # fmt: skip


def pages(options, rest):
    """Open pages of the site (build/site, by `docs`) in Chromium: errors, accessibility, 400 px, dark mode, keyboard.

    Twice: from disk, and served from this machine. It needs Chromium, and Node with npm, from which puppeteer-core and axe-core
    come; without them it says so and ends. `pages --screenshots DIR` keeps pictures. Arguments are pages, such as
    operators/relu.html, instead of one of every kind. Where the site has the engine (built by `browser`), the explorers and
    examples of the lecture are used as a reader would, too; `pages --live` does this alone.
    """
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    site = ROOT / "build" / "site"
    found = {"Chromium": chromium, "node": shutil.which("node"), "npm": shutil.which("npm")}
    lacking = [name for name, path in found.items() if not path]
    if lacking or not (site / "index.html").exists():
        print(
            f"skipped: {' and '.join(lacking) + ' not found' if lacking else 'no site; run `python tools/dev.py docs`'}"
        )
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "node_modules" / "axe-core").exists():
        install = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", FOLDER)
        run(*install, "puppeteer-core@25", "axe-core@4")
    screenshots = Path(options.screenshots).resolve() if options.screenshots else "-"
    if options.screenshots:
        screenshots.mkdir(parents=True, exist_ok=True)
    wanted = rest or PAGES
    look = ("node", HERE / "pages.mjs")
    if not options.live:
        run(*look, site.as_uri() + "/", FOLDER, chromium, "-", *wanted)
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = (f"http://127.0.0.1:{server.server_port}/", FOLDER, chromium, screenshots)
        if not options.live:
            run(*look, *place, *wanted)
        if (site / "_static" / "engine").exists() and not rest:
            run("node", HERE / "live.mjs", *place)
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a line for each of them."""

    def log_message(self, format, *arguments):
        pass
