"""``cnncore extract``."""

import sys

from .options import positive_integer
from .predict import image_files
from .progress import ProgressLine, bar


def extract(options):
    """Run a model over many images: predictions, features or class activation maps, in files that survive interruptions."""
    from ..distributed import extract as run

    files = image_files(options.image)
    what = "maps" if options.maps else "predictions" if options.node is None else "features"
    with ProgressLine(sys.stderr) as line:
        done = run(
            options.model,
            files,
            options.output,
            what=what,
            node=options.node,
            shard_size=options.shard_size,
            format=options.format,
            workers=options.workers,
            scheduler=options.scheduler,
            progress=lambda now, total: line.show(f"{bar(now / total)} {now} of {total} shards"),
        )
    failed = f", {len(done.failed)} of them failed ({options.output}/failed.csv)" if done.failed else ""
    there = len(done.shards) - done.computed
    print(
        f"{what} of {done.images:,} images{failed}, in {len(done.shards)} shards"
        f"{f' ({there} were there)' if there else ''}: {options.output}"
    )
    return 0


EXTRACT_HELP = """\
examples:
  cnncore extract runs/digits scans --output out                      probabilities of all classes
  cnncore extract runs/digits scans --output out --node average --workers 4
  cnncore extract runs/digits scans --output out --format parquet     a table for pandas, Polars or DuckDB
  cnncore extract runs/digits scans --output out --maps --scheduler tcp://10.0.0.1:8786

Writes shard-00000.npz (or .parquet) and so on into the output folder, failed.csv with the files that are no images, and
extraction.json. Called again after an interruption, it computes the shards that are missing. The results are the same for
every number of workers. A Dask scheduler (pip install "cnncore[dask]") brings workers on other machines, which must see the
same files."""


def add_extract(commands):
    """``cnncore extract`` and its options."""
    sub = commands.add(extract, "run a model over many images", EXTRACT_HELP)
    sub.add_argument(
        "model", metavar="MODEL", help="a model file (.safetensors or .onnx), or the output folder of `cnncore train`"
    )
    sub.add_argument("image", nargs="+", metavar="FILE", help="images, or folders of images")
    sub.add_argument("--output", required=True, metavar="DIR", help="folder for the shards")
    kind = sub.add_mutually_exclusive_group()
    kind.add_argument(
        "--node", metavar="NAME", help="extract what this node makes of each image (default: predictions)"
    )
    kind.add_argument("--maps", action="store_true", help="extract class activation maps of the predicted classes")
    sub.add_argument(
        "--shard-size", type=positive_integer, default=64, metavar="N", help="images per shard (default: 64)"
    )
    sub.add_argument(
        "--format",
        choices=("npz", "parquet"),
        default="npz",
        help="arrays of numpy, or tables (default: npz; parquet needs cnncore[parquet])",
    )
    where = sub.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=positive_integer, default=1, metavar="N", help="processes of this machine (default: 1)"
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="run on the workers of a Dask scheduler instead")
