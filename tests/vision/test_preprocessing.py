"""Preprocessing for models of other frameworks: names of classes."""

import pytest

from cnncore.errors import DataError
from cnncore.vision.preprocessing import read_classes


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252", "utf-32"]
)
def test_class_names_are_read_or_refused_never_guessed(tmp_path, encoding):
    names, path = ["chat", "chien", "café"], tmp_path / "classes.txt"
    for text in ("\r\n".join(names), '["chat", "chien", "café"]'):
        path.write_bytes(text.encode(encoding))
        try:
            assert read_classes(path) == names and encoding in ("utf-8", "utf-8-sig", "utf-16")
        except DataError as error:
            assert "save the file as UTF-8" in str(error) and encoding not in ("utf-8", "utf-8-sig", "utf-16")
