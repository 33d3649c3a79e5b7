"""``cnncore explain``: the page is written, and bad input gets one clear line."""

import re

from support.command_line import fails, run

from cnncore.train.data import digits_split
from cnncore.vision.images import write_png


def test_command(trained, tmp_path):
    write_png(tmp_path / "digit.png", digits_split()[1].images[3])
    done = run("explain", trained[0], "digit.png", "-o", "page.html", "--target", "cross", cwd=tmp_path)
    assert re.fullmatch(r"page\.html: \d\.\d MB; open it in a browser\n", done.stdout)
    assert "score of class cross" in (tmp_path / "page.html").read_text(encoding="utf-8")
    for arguments, message in (
        (("page.html", "-o", "x.png"), r"the page is written as \.html"),
        (("digit.png", "--target", "circle"), "circle"),
        (("none.png",), r"none\.png"),
    ):
        fails("explain", trained[0], *arguments, cwd=tmp_path, match=message)
