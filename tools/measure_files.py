"""Many files: memory of data sets and bulk work as they grow, and images per second of bulk work.

    python tools/measure_files.py memory --files 100000
    python tools/measure_files.py speed --files 2000 --workers 1 2

Files are links to a thousand pictures, so that the disk does not fill. Memory is the resident set of a fresh process at its
end, with a thousand files and with all.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import cnncore
from cnncore.vision.images import write_png

DISTINCT, SIZE = 1000, 28
CLASSES = ("cats", "dogs")

# Each prints how many images it has seen, the seconds and the megabytes that are resident at its end.
PROGRAMS = {
    "FileDataset": """
import sys, time
from cnncore.train import FileDataset
began = time.perf_counter()
data = FileDataset.from_folder(sys.argv[1])
count = sum(len(labels) for _, labels in data.batches(256, seed=0))
""",
    "extract": """
import sys, time
from cnncore.distributed import extract
from pathlib import Path
began = time.perf_counter()
files = [path for folder in sorted(Path(sys.argv[1]).iterdir()) for path in sorted(folder.iterdir())]
count = extract(sys.argv[2], files, sys.argv[3], shard_size=500, workers=int(sys.argv[4])).images
""",
}
REPORT = """
seconds = time.perf_counter() - began
resident = int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
print(count, seconds, resident)
"""


def link(place, files):
    """A folder with that many pictures in two classes."""
    pictures = place / "pictures"
    if not pictures.exists():
        pictures.mkdir()
        rng = np.random.default_rng(0)
        for number in range(DISTINCT):
            write_png(pictures / f"{number}.png", rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8))
    folder = place / f"data-{files}"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for number in range(files):
        os.link(pictures / f"{number % DISTINCT}.png", folder / CLASSES[number % 2] / f"{number:07}.png")
    return folder


def run(name, *arguments):
    """(images, seconds, MB) of a program in a fresh process."""
    command = [sys.executable, "-c", PROGRAMS[name] + REPORT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    count, seconds, resident = done.stdout.split()
    return int(count), float(seconds), float(resident)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "speed"))
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model = place / "model.safetensors"
        cnncore.models.small_inception(seed=0).save(model)
        print("| program | workers | images | s | images/s | MB resident |\n|---|---|---|---|---|---|", flush=True)
        counts = (DISTINCT, options.files) if options.what == "memory" else (options.files,)
        for files in counts:
            folder = link(place, files)
            rows = [("FileDataset", 1, (folder,))]
            rows += [("extract", n, (folder, model, place / f"out-{files}-{n}", n)) for n in options.workers]
            for program, workers, arguments in rows:
                count, seconds, resident = run(program, *arguments)
                assert count == files, (count, files)
                speed = count / seconds
                print(
                    f"| {program} | {workers} | {count:,} | {seconds:.1f} | {speed:.0f} | {resident:.0f} |", flush=True
                )
                time.sleep(0.1)


if __name__ == "__main__":
    main()
