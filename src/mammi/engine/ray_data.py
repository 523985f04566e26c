"""The work on Ray Data: films are decoded by tasks on any CPU of a cluster, models live in actors; see docs/cluster.md."""

import logging
import os
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np

from mammi.engine.local import LocalEngine, n_cores
from mammi.engine.processes import CHANCES, WORTH
from mammi.engine.sending import Parcel, as_error
from mammi.engine.work import Gathering, Piece, Work
from mammi.errors import InputError, WorkerError
from mammi.registry import import_extra

__all__ = ["RayEngine"]


@dataclass(frozen=True)
class RayEngine:
    """Ray Data, on a cluster or on this machine. Only this process, the driver, writes anything.

    What is lost with a process or a machine is done again by Ray's own means.

    Attributes:
        workers: actors, each with models of its own, and with a GPU of its own where the models run on one.
        decoders: threads that decode films, per decoding task; None for one.
        address: of a running cluster that this machine is part of; None starts one here and ends it with each stage.
    """

    workers: int = 1
    decoders: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        """Refuse early what is not installed."""
        import_extra("ray.data", "ray")

    def run(self, work: Work, pieces: Sequence[Piece], on_batch: Callable[[int], None]) -> Iterator[tuple[Piece, Any]]:
        """Do the pieces, in the order in which they become whole.

        Raises:
            InputError: if a model cannot be sent to another process, or the cluster is too small.
            WorkerError: if Ray gives up on a part of the work, or a worker fails in a way that has no error of its own.
        """
        gathering = Gathering(work, pieces)
        batches = gathering.batches
        if len(batches) < WORTH:
            yield from LocalEngine(self.decoders).run(work, pieces, on_batch)
            return
        stage = (Path.cwd(), sys.path, Parcel.of(work), Parcel.of(work.loader()), batches)
        decoders = self.decoders or 1
        with _connected(self.address, self.workers, decoders, work.device) as ray, _quiet(ray):
            data = import_extra("ray.data", "ray")
            here = import_extra("ray.util.scheduling_strategies", "ray").NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=False
            )
            sent = ray.remote(num_cpus=0, scheduling_strategy=here)(_Keeper).remote([ray.put(stage)])
            # One row is one batch, with what was loaded, and then with what was computed; one task is one row.
            rows = data.range(len(batches), override_num_blocks=len(batches)).map_batches(
                _load,
                batch_size=1,
                batch_format="numpy",
                fn_args=(sent, decoders),
                num_cpus=decoders - 0.01,  # of steps that ask for the same, Ray Data makes one
            )
            rows = rows.map_batches(
                _Actor,
                batch_size=1,
                batch_format="numpy",
                fn_constructor_args=(sent,),
                compute=data.ActorPoolStrategy(size=self.workers, max_tasks_in_flight_per_actor=2),
                num_cpus=1,
                num_gpus=1 if work.device.startswith("cuda") else 0,
            )
            with closing(_outputs(ray, rows)) as outputs:
                for batch, output in outputs:
                    on_batch(len(batches[batch]))
                    whole = gathering.add(batch, output)
                    if whole is not None:
                        yield whole


def _outputs(ray: Any, rows: Any) -> Generator[tuple[int, Any], None, None]:  # noqa: ANN401 - the module and a Dataset
    """Yield every batch once with its output, as they come; Ray Data has stopped when this ends."""
    with closing(iter(rows.iter_batches(batch_size=None, batch_format="numpy"))) as results:
        while True:
            try:
                found = next(results, None)
            except ray.exceptions.RayError as error:
                raise WorkerError(
                    f"Ray gave up ({type(error).__name__}: {' '.join(str(error).split())[:300]}): what is recorded stays, "
                    "and the same command goes on from there"
                ) from error
            if found is None:
                return
            for batch, content in zip(found["batch"], found["content"], strict=True):
                yield int(batch), _unpacked(content)


class _Keeper:
    """Holds the stage for all, and counts how often each batch was begun.

    Ray itself would go on for ever with a batch that ends whoever computes it.
    """

    def __init__(self, stage: list[Any]) -> None:
        self._stage = stage
        self._n: Counter[int] = Counter()

    def stage(self) -> list[Any]:
        return self._stage

    def one_more(self, batch: int) -> int:
        self._n[batch] += 1
        return self._n[batch]


def _packed(make: Callable[[], Any]) -> Any:  # noqa: ANN401 - one cell of a column
    """Return what ``make`` returns, or the error it raises, in bytes."""
    from ray import cloudpickle

    try:
        cell = (True, make())
    except Exception as error:  # noqa: BLE001 - whatever it is, the driver raises it
        cell = (False, as_error(error))
    column = np.empty(1, dtype=object)
    column[0] = cloudpickle.dumps(cell)
    return column


def _unpacked(content: bytes) -> Any:  # noqa: ANN401 - what was packed
    from ray import cloudpickle

    good, value = cloudpickle.loads(content)
    if not good:
        raise value
    return value


def _opened(sent: Any, place: int, device: str | None) -> tuple[Work, Sequence[Sequence[int]]]:  # noqa: ANN401
    """Return the stage and its batches in a process of Ray's; ``sent`` is its `_Keeper`."""
    import ray

    (kept,) = ray.get(sent.stage.remote())
    folder, paths, *parcels, batches = ray.get(kept)
    # A path means here what it means to the driver, or nothing.
    with suppress(OSError):
        os.chdir(folder)
    sys.path.extend(path for path in paths if path not in sys.path)
    work = parcels[place].open(device)
    images = getattr(work, "images", None)
    if images is not None and not images.paths[0].exists():
        raise InputError(
            f"the films are not where they were told to be on {gethostname()}: all machines of a cluster must see them "
            "under the same path"
        )
    return work, batches


@lru_cache(maxsize=1)
def _loading(sent: Any) -> tuple[Work, Sequence[Sequence[int]]]:  # noqa: ANN401 - a `_Keeper`
    """Open the stage to load from, once in each process."""
    return _opened(sent, 1, "cpu")


def _load(row: dict[str, Any], sent: Any, decoders: int) -> dict[str, Any]:  # noqa: ANN401 - a `_Keeper`
    """Load one batch."""

    def loaded() -> list[Any]:
        work, batches = _loading(sent)
        with ThreadPoolExecutor(decoders) as pool:
            return list(pool.map(work.load, batches[int(row["id"][0])]))

    return {"batch": row["id"], "content": _packed(loaded)}


class _Actor:
    """Holds the models and computes batches; what fails comes out as an error, which the driver raises."""

    def __init__(self, sent: Any) -> None:  # noqa: ANN401 - a `_Keeper`
        self._sent = sent
        self._failed: Exception | None = None
        try:
            work, self._batches = _opened(sent, 0, None)
            self._models = work.opened()
            self._compute = self._models.__enter__()
        except Exception as error:  # noqa: BLE001 - Ray would start the actor again and again
            self._failed = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        def computed() -> Any:  # noqa: ANN401 - what the stage computes
            import ray

            if self._failed is not None:
                raise self._failed
            batch = int(row["batch"][0])
            if ray.get(self._sent.one_more.remote(batch)) > CHANCES:
                rows = self._batches[batch]
                raise WorkerError(
                    f"{CHANCES} workers ended while they worked on the same {len(rows)} films or texts (rows {min(rows)} "
                    f"to {max(rows)}): take out what cannot be read, or, if memory is short, use a smaller batch; what "
                    "is recorded stays, and the same command goes on from there"
                )
            return self._compute(_unpacked(row["content"][0]))

        return {"batch": row["batch"], "content": _packed(computed)}


@contextmanager
def _connected(address: str | None, workers: int, decoders: int, device: str) -> Iterator[Any]:
    """Be connected to a cluster that is large enough; end what was started for it, and nothing else."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anyone
    os.environ.setdefault(
        "RAY_BACKEND_LOG_LEVEL", "fatal"
    )  # of what Ray Data does itself, Ray says that it is an error
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = import_extra("ray", "ray")
    ours = not ray.is_initialized()
    on_exit = signal.getsignal(signal.SIGTERM)
    if ours:
        # Actors hold their CPUs for good: decoding needs at least one more, or nothing ever moves.
        here = {"include_dashboard": False, "num_cpus": workers + max(decoders, n_cores() - workers)}
        try:
            ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else here))
        except (ConnectionError, ray.exceptions.RayError, ValueError) as error:
            raise InputError(
                f"there is no Ray cluster at {address!r} ({' '.join(str(error).split())[:200]})"
            ) from error
    try:
        has = ray.cluster_resources()
        needs = {"CPU": workers + decoders, **({"GPU": workers} if device.startswith("cuda") else {})}
        for kind, n in needs.items():
            if has.get(kind, 0) < n:
                raise InputError(
                    f"{workers} workers on {device} need {n} {kind}s of the Ray cluster, it has {has.get(kind, 0):g}: use "
                    "fewer workers (each takes a CPU, and decoding as many as it has threads), or a larger cluster"
                )
        yield ray
    finally:
        if ours:
            ray.shutdown()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_exit)


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:  # noqa: ANN401 - the module
    """Keep Ray Data's own progress and remarks from the screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is told off for its own settings
        context = ray.data.DataContext.get_current()
    before = (context.enable_progress_bars, context.print_on_execution_start)
    logger = logging.getLogger("ray.data")
    level = logger.level
    context.enable_progress_bars = context.print_on_execution_start = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before
        logger.setLevel(level)
