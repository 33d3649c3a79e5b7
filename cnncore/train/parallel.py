"""A training step over a batch in shards, on one rank or many, with the same bits on any number of them.

The batch is cut into logical shards, each of which runs forward and backward by itself. Their gradients, losses and statistics
are added along one fixed binary tree (communication.py), so that nothing depends on which rank computed which shard. Random
numbers follow an image's place in the whole batch.

Gradients lie in flat arrays, in the order in which backward finishes them, and leave in buckets while it runs.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..checks import integer
from ..errors import SettingError
from ..nets.net import Net
from ..runtime import cpu
from .augment import part_of_batch
from .communication import (
    Channel,
    Communicator,
    TreeSum,
    gather_along_tree,
    merged_moments,
    reduce_along_tree,
    shards_of_rank,
)
from .criterion import Criterion

__all__ = ["BatchShards", "DataParallel"]

Result = TypeVar("Result")

FEWEST_SHARDS = 8  # by default: 1 to 8 ranks then give the same bits
MOST_SHARDS = 1 << 16
BUCKET_BYTES = 4 << 20
REDUCTIONS = ("tree", "mpi")
STATISTICS = ("batch", "shard")
DIGEST_BYTES = 16


class OneRank:
    """The communicator of a single process."""

    rank, size = 0, 1

    def allreduce(self, array: NDArray[Any]) -> None: ...

    def allgather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        return [array]

    def broadcast(self, value: Any, root: int = 0) -> Any:
        return value

    def barrier(self) -> None: ...

    def exchange(self, array: NDArray[Any], to: int, out: NDArray[Any], source: int) -> None:
        out[...] = array

    def abort(self, error: BaseException) -> None: ...


# ── The shards of a rank, in step with one another ─────────────────────────────────────────────────────────────────────


class Lockstep:
    """Runs several functions in turns: each until it synchronizes, then the next.

    So the shards of one rank meet at every normalisation over the batch, without computing at the same time.
    """

    def __init__(self, count: int, merge: Callable[[str, list[NDArray[Any]]], NDArray[Any]]) -> None:
        self.count, self.merge = count, merge
        self.turn, self.changed = 0, threading.Condition()
        self.brought: list[Any] = [None] * count
        self.merged: Any = None
        self.failures: list[BaseException] = []

    def run(self, functions: Sequence[Callable[[Callable[[str, NDArray[Any]], NDArray[Any]]], Result]]) -> list[Result]:
        """The results of the functions, each of which is given its ``synchronize(kind, array)``."""
        if self.count == 1:
            return [functions[0](lambda kind, array: self.merge(kind, [array]))]
        results: list[Any] = [None] * self.count

        def work(number: int) -> None:
            try:
                self.await_turn(number)
                results[number] = functions[number](functools.partial(self.synchronize, number))
                self.pass_on()
            except BaseException as error:
                with self.changed:
                    self.failures.append(error)
                    self.changed.notify_all()

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(self.count)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:  # Ctrl-C, which the main thread alone hears
            with self.changed:
                self.failures.append(error)
                self.changed.notify_all()
            raise
        if self.failures:
            raise self.failures[0]
        return results

    def await_turn(self, number: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.turn == number or bool(self.failures))
            if self.failures:
                raise SettingError("training: another shard of the batch has failed")

    def pass_on(self) -> None:
        with self.changed:
            self.turn = (self.turn + 1) % self.count
            self.changed.notify_all()

    def synchronize(self, number: int, kind: str, array: NDArray[Any]) -> NDArray[Any]:
        self.brought[number] = array
        self.pass_on()
        self.await_turn(number)
        if number == 0:  # when its turn comes again, all have brought theirs
            self.merged = self.merge(kind, self.brought)
        return self.merged


# ── Flat gradients ─────────────────────────────────────────────────────────────────────────────────────────────────────


class FlatGradients:
    """The gradients of all parameters in one flat array: name → its part, in the parameter's shape."""

    def __init__(self, net: Net) -> None:
        shapes = {name: net.graph.owned[name].shape for name in net.gradient_order}
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()]
        self.flat = np.zeros(sum(sizes), net.dtype)
        ends = np.cumsum(sizes).tolist()
        pieces = zip(shapes.items(), ends, sizes, strict=True)
        self.arrays = {name: self.flat[end - size : end].reshape(shape) for (name, shape), end, size in pieces}


@dataclass
class Bucket:
    """Neighbouring gradients that are sent together."""

    names: list[str]
    part: slice
    tree: TreeSum[FlatGradients] | None = None
    arrived: int = 0
    missing: dict[int, int] = field(default_factory=dict)  # shard → gradients that are not final yet


def buckets_of(gradients: FlatGradients) -> list[Bucket]:
    """Cut flat gradients into buckets of about BUCKET_BYTES; the first ones are final first."""
    buckets: list[Bucket] = []
    names: list[str] = []
    first = last = 0
    for name, array in gradients.arrays.items():
        names.append(name)
        last += array.size
        if (last - first) * array.itemsize >= BUCKET_BYTES:
            buckets.append(Bucket(names, slice(first, last)))
            names, first = [], last
    if names:
        buckets.append(Bucket(names, slice(first, last)))
    return buckets


# ── Steps ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class BatchShards:
    """What a rank has of a batch: images ``first`` to ``first + len(y)`` of ``count``.

    Parameters
    ----------
    x : tuple of array
        Its images: one array per input of the net.
    y : array
        Their targets.
    first, count : int
    """

    x: tuple[NDArray[Any], ...]
    y: Any
    first: int
    count: int


class DataParallel:
    """Training steps over shards: the gradients of a batch from those of its shards, on all ranks together.

    Parameters
    ----------
    communicator : Communicator or None
        None: this process alone.
    shards : int or None
        Parts into which every batch is cut, at least one per rank; None: 8, or the power of two that gives each rank one.
    reduction : {"tree", "mpi"}, optional
        How gradients are added over the ranks.
    statistics : {"batch", "shard"}, optional
        Over what batch normalisation takes them in training.

    Raises
    ------
    SettingError
        There are fewer shards than ranks, or a setting is unknown.
    """

    def __init__(
        self,
        communicator: Communicator | None,
        shards: int | None,
        reduction: str = "tree",
        statistics: str = "batch",
    ) -> None:
        self.communicator: Communicator = OneRank() if communicator is None else communicator
        rank, ranks = self.communicator.rank, self.communicator.size
        if shards is None:
            shards = max(FEWEST_SHARDS, 1 << (ranks - 1).bit_length())
        self.shards = integer("Trainer", "shards", shards, 1, MOST_SHARDS)
        if self.shards < ranks:
            raise SettingError(
                f"Trainer: {ranks} ranks share {self.shards} shards of a batch; give shards={ranks} or more, or fewer ranks"
            )
        for name, value, known in (("reduction", reduction, REDUCTIONS), ("statistics", statistics, STATISTICS)):
            if value not in known:
                raise SettingError(f"Trainer: {name} is {value!r}; choose one of {', '.join(map(repr, known))}")
        self.reduction, self.statistics = reduction, statistics
        self.own = shards_of_rank(rank, ranks, self.shards)
        self.channel = Channel(self.communicator)
        self._slots: list[FlatGradients] = []
        self._order: tuple[str, ...] = ()
        self._ready: list[Any] = []
        self.counted = 0.0  # what the mean loss of the last batch was divided by

    def batch(self, x: tuple[NDArray[Any], ...], y: NDArray[Any]) -> BatchShards:
        """What this rank computes of a whole batch.

        Parameters
        ----------
        x : tuple of array
        y : array

        Returns
        -------
        BatchShards
        """
        count = len(x[0])
        first, last = part_of_batch(0, count, self.own, self.shards)
        return BatchShards(tuple(array[first:last] for array in x), y[first:last], first, count)

    def pieces(self, batch: BatchShards) -> Iterator[tuple[int, int, int]]:
        """(shard, first image, last image + 1) of each shard of this rank, counted within its part of the batch.

        Parameters
        ----------
        batch : BatchShards

        Yields
        ------
        (int, int, int)
        """
        for shard in self.own:
            first, last = part_of_batch(0, batch.count, shard, self.shards)
            yield shard, first - batch.first, last - batch.first

    def gradients(
        self, net: Net, criteria: Sequence[Criterion], weights: Sequence[float], batch: BatchShards, step: int
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """(loss, correctly classified and counted targets per shard; gradients by name; running statistics by name) of a batch.

        Parameters
        ----------
        net : Net
            As the loss sees it.
        criteria : sequence of Criterion
            One per output.
        weights : sequence of float
            Weights of the outputs' losses.
        batch : BatchShards
        step : int
            Number of the training pass, from which random operators draw.

        Returns
        -------
        figures : float64 array (shards, 3)
            The first column is each shard's share of the loss; the second is NaN where nothing is right or wrong.
        gradients : dict
        statistics : dict
        """
        if self._order != net.gradient_order or (self._slots and self._slots[0].flat.dtype != net.dtype):
            self._slots, self._order = [], net.gradient_order
        shares = self._shares(criteria[0], batch)
        run = _Run(self, net, criteria, weights, batch, step, shares)
        if self.statistics == "batch" and self.shards > 1 and normalizes_batch(net):
            passes = [functools.partial(run.shard, *piece) for piece in self.pieces(batch)]
            Lockstep(len(passes), self._merge).run(passes)
        else:
            for piece in self.pieces(batch):
                run.shard(*piece, None)
        return run.finish()

    def _shares(self, criterion: Criterion, batch: BatchShards) -> NDArray[Any]:
        """What the mean loss of each shard counts in that of the batch: by targets that are not ignored, else by images."""
        cuts = [part_of_batch(0, batch.count, shard, self.shards) for shard in range(self.shards)]
        counts = np.array([last - first for first, last in cuts], np.float64)
        if criterion.counted(batch.y) is not None:
            counted = [criterion.counted(batch.y[first:last]) for _, first, last in self.pieces(batch)]
            mine = np.array(counted, np.float64)
            counts = np.concatenate(self.channel.now(lambda: self.communicator.allgather(mine)))
        self.counted = float(counts.sum())
        return counts / (self.counted or 1)

    def _merge(self, kind: str, arrays: list[NDArray[Any]]) -> NDArray[Any]:
        """Statistics of a normalisation over the whole batch, from those of this rank's shards."""
        combine = merged_moments if kind == "moments" else np.add
        tree: TreeSum[NDArray[Any]] = TreeSum(self.shards, combine)
        for shard, array in zip(self.own, arrays, strict=True):
            tree.add((shard, shard + 1), array)
        return self.channel.now(lambda: gather_along_tree(self.communicator, self.shards, tree.partial, combine))

    def slot(self, net: Net, used: set[int]) -> FlatGradients:
        """Flat gradients that are not among the ``used`` ones (their id).

        Parameters
        ----------
        net : Net
        used : set of int

        Returns
        -------
        FlatGradients
        """
        for slot in self._slots:
            if id(slot) not in used:
                return slot
        self._slots.append(FlatGradients(net))
        return self._slots[-1]

    def reduce(self, partials: list[NDArray[Any]]) -> None:
        """Write the sum over all ranks into the first of ``partials``, this rank's.

        Parameters
        ----------
        partials : list of flat array
        """
        self.channel.cost.bytes += partials[0].nbytes
        if self.reduction == "tree":
            reduce_along_tree(self.communicator, self.shards, partials)
            return
        for partial in partials[1:]:
            partials[0] += partial
        self.communicator.allreduce(partials[0])

    def sum_of(self, shares: NDArray[Any]) -> float:
        """The sum of one number per shard, along the tree.

        Parameters
        ----------
        shares : float64 array (shards,)

        Returns
        -------
        float
        """
        tree: TreeSum[float] = TreeSum(self.shards, lambda left, right: left + right)
        for shard, share in enumerate(shares.tolist()):
            tree.add((shard, shard + 1), share)
        return tree.partial[0, self.shards]

    def place_of(self, shard: int, count: int) -> str:
        """Where a shard of a batch of ``count`` images is computed, for messages.

        Parameters
        ----------
        shard, count : int

        Returns
        -------
        str
        """
        first, last = part_of_batch(0, count, shard, self.shards)
        ranks = range(self.communicator.size)
        rank = next(r for r in ranks if shard in shards_of_rank(r, len(ranks), self.shards))
        return f" on rank {rank}, in images {first} to {last - 1} of the batch"

    # ── Agreement ──

    def check_agreement(self, what: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raise unless all ranks have the same settings and arrays: what differs would end in other weights, or never.

        Parameters
        ----------
        what : mapping
            Name → anything whose text says what it is.
        arrays : mapping
            Name → array.

        Raises
        ------
        SettingError
            They differ; says which ranks, and in what.
        """
        if self.communicator.size == 1:
            return
        if self.reduction == "tree":
            what = {**what, "the CPU target": cpu.target()}
        digests = {
            name: hashlib.blake2b(repr(value).encode(), digest_size=DIGEST_BYTES) for name, value in what.items()
        }
        digests["the arrays of net and optimizer"] = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for name in sorted(arrays):
            digests["the arrays of net and optimizer"].update(name.encode() + arrays[name].tobytes())
        own = np.array([[*b"".join(digest.digest() for digest in digests.values())]], np.uint8)
        rows = self.channel.now(lambda: self.communicator.allgather(own))
        for rank, row in enumerate(rows):
            if row.shape != own.shape or (row != rows[0]).any():
                place = int((row != rows[0]).any(axis=0).argmax()) // DIGEST_BYTES if row.shape == rows[0].shape else 0
                name = list(digests)[place]
                here = f" (here {what[name]!r})" if name in what else ""
                raise SettingError(
                    f"training: rank {rank} and rank 0 differ in {name}{here}; run the same program with the same settings and "
                    "data on all ranks"
                    + (", and set CNNCORE_TARGET to a target that all have" if "CPU" in name else "")
                )

    def broadcast(self, value: Result) -> Result:
        """The value of rank 0.

        Parameters
        ----------
        value : object

        Returns
        -------
        object
        """
        if self.communicator.size == 1:
            return value
        return self.channel.now(lambda: self.communicator.broadcast(value))

    def agreed(self, value: bool) -> bool:
        """Whether ``value`` is true on any rank.

        Parameters
        ----------
        value : bool

        Returns
        -------
        bool
        """
        if self.communicator.size == 1:
            return value
        rows = self.channel.now(lambda: self.communicator.allgather(np.array([value])))
        return any(bool(row[0]) for row in rows)

    def gathered(self, arrays: list[NDArray[Any]]) -> NDArray[Any]:
        """One array of what all ranks have of each batch: batch after batch, in each rank after rank.

        Parameters
        ----------
        arrays : list of array
            One per batch.

        Returns
        -------
        array
        """
        if self.communicator.size == 1:
            return np.concatenate(arrays)
        lengths = np.array([len(array) for array in arrays], np.int64)
        all_lengths = self.channel.now(lambda: self.communicator.allgather(lengths))
        whole = np.ascontiguousarray(np.concatenate(arrays))
        rows = self.channel.now(lambda: self.communicator.allgather(whole))
        cut = [np.split(row, np.cumsum(counts)[:-1]) for row, counts in zip(rows, all_lengths, strict=True)]
        return np.concatenate([piece for batch in zip(*cut, strict=True) for piece in batch])

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """An error inside ends the work of all ranks: the others would wait for this one for ever.

        Yields
        ------
        None
        """
        try:
            yield
        except Exception as error:
            if self.communicator.size > 1:
                self.communicator.abort(error)
            raise


def normalizes_batch(net: Net) -> bool:
    """Whether a training pass takes statistics over the batch."""
    nodes = (node for node in net.graph.nodes if node.op.implementation.normalizes_batch)
    return any(node.settings.get("training", True) for node in nodes)


class _Run:
    """One step: what its shards have in common."""

    def __init__(
        self,
        parallel: DataParallel,
        net: Net,
        criteria: Sequence[Criterion],
        weights: Sequence[float],
        batch: BatchShards,
        step: int,
        shares: NDArray[Any],
    ) -> None:
        self.parallel, self.net, self.criteria, self.weights = parallel, net, criteria, weights
        self.batch, self.step, self.shares = batch, step, shares
        self.buckets = buckets_of(parallel.slot(net, set()))
        for bucket in self.buckets:
            bucket.tree = TreeSum(parallel.shards, functools.partial(self.add, bucket))
        self.bucket_of = {name: bucket for bucket in self.buckets for name in bucket.names}
        self.figures: list[tuple[float, float, float]] = []
        self.statistics: dict[int, dict[str, NDArray[Any]]] = {}
        self.futures: list[Any] = []
        self.open: set[int] = set()  # the slots of shards that run

    @staticmethod
    def add(bucket: Bucket, left: FlatGradients, right: FlatGradients) -> FlatGradients:
        left.flat[bucket.part] += right.flat[bucket.part]
        return left

    def shard(self, shard: int, first: int, last: int, synchronize: Any) -> None:
        """Forward, loss and backward of one shard: images ``first`` to ``last`` of this rank's part of the batch."""
        xs, target = [x[first:last] for x in self.batch.x], self.batch.y[first:last]
        statistics = self.statistics[shard] = {}
        outputs, backward = self.net.with_backward(
            *xs,
            training=True,
            needs_gradient=False,
            repeatable=False,
            step=self.step,
            first_image=self.batch.first + first,
            synchronize=synchronize,
            buffers=statistics,
        )
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        share, value, gradients = float(self.shares[shard]), 0.0, []
        for criterion, output, weight in zip(self.criteria, outputs, self.weights, strict=True):
            if share == 0:  # no images, or nothing but targets that are ignored
                gradients.append(np.zeros_like(output))
                continue
            loss, loss_backward = criterion.loss(output, target)
            gradients.append(loss_backward(np.full((), weight * share, output.dtype)))
            value += weight * share * float(loss)
        judged = self.criteria[0].judged(outputs[0], target) if len(target) else (0, 0)
        self.figures.append((value, *((np.nan, 0) if judged is None else judged)))
        slot = self._slot()
        for bucket in self.buckets:
            bucket.missing[shard] = len(bucket.names)
        backward(*gradients, gradients=dict(slot.arrays), on_gradient=functools.partial(self.arrived, shard, slot))
        self.open.discard(id(slot))

    def _slot(self) -> FlatGradients:
        """Flat gradients that no shard writes into, and no partial sum lies in."""
        used = set(self.open)
        for bucket in self.buckets:
            assert bucket.tree is not None
            used.update(id(slot) for slot in bucket.tree.partial.values())
        slot = self.parallel.slot(self.net, used)
        self.open.add(id(slot))
        return slot

    def arrived(self, shard: int, slot: FlatGradients, name: str, array: NDArray[Any]) -> None:
        """A gradient of a shard is final. Where it is the last of its bucket on this rank, the bucket leaves."""
        bucket = self.bucket_of[name]
        bucket.missing[shard] -= 1
        if bucket.missing[shard]:
            return
        assert bucket.tree is not None
        bucket.tree.add((shard, shard + 1), slot)
        bucket.arrived += 1
        if bucket.arrived == len(self.parallel.own) and self.parallel.communicator.size > 1:
            partials = [each.flat[bucket.part] for _, each in sorted(bucket.tree.partial.items())]
            self.futures.append(self.parallel.channel.submit(functools.partial(self.parallel.reduce, partials)))

    def finish(self) -> tuple[NDArray[Any], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Figures of all shards, gradients and running statistics of the batch."""
        parallel = self.parallel
        own = np.array(self.figures)
        gathered = parallel.channel.submit(lambda: parallel.communicator.allgather(own))
        statistics = self._merged_statistics()
        parallel.channel.wait(self.futures)
        (figures,) = parallel.channel.wait([gathered])
        gradients: dict[str, NDArray[Any]] = {}
        if self.buckets:
            tree = self.buckets[0].tree
            assert tree is not None
            gradients = dict(tree.partial[min(tree.partial)].arrays)
        return np.concatenate(figures), gradients, statistics

    def _merged_statistics(self) -> dict[str, NDArray[Any]]:
        """New running statistics: those of the whole batch, which all shards have, or the mean of the shards'."""
        parallel, own = self.parallel, self.statistics
        first = own[parallel.own.start]
        if not first or parallel.statistics == "batch":
            return first
        tree: TreeSum[NDArray[Any]] = TreeSum(parallel.shards, np.add)
        for shard in parallel.own:
            begin, end = part_of_batch(0, self.batch.count, shard, parallel.shards)
            share = (end - begin) / max(self.batch.count, 1)
            tree.add(
                (shard, shard + 1), share * np.concatenate([own[shard][name].astype(np.float64) for name in first])
            )
        whole = parallel.channel.now(
            lambda: gather_along_tree(parallel.communicator, parallel.shards, tree.partial, np.add)
        )
        cuts = np.cumsum([array.size for array in first.values()])[:-1]
        return dict(zip(first, np.split(whole, cuts), strict=True))
