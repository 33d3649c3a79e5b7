"""Networks that were trained elsewhere, from installed packages: found without importing those, and never vendored."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

__all__ = ["FOREIGN", "Foreign", "installed_file"]


@dataclass(frozen=True)
class Foreign:
    """An ONNX file of a package, and the shape of images that it is timed with."""

    name: str
    package: str
    file: str
    shape: tuple

    @property
    def path(self):
        """Where it lies; None where the package is not installed."""
        return installed_file(self.package, self.file)


FOREIGN = (
    Foreign("text detection PP-OCRv4", "rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx", (1, 3, 640, 640)),
    Foreign("text direction PP-OCRv2", "rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx", (1, 3, 48, 192)),
)


def installed_file(package, name):
    """The path of a package's file of that name; None where there is none."""
    try:
        found = files(package) or ()
    except PackageNotFoundError:
        return None
    return next((Path(file.locate()) for file in found if file.name == name), None)
