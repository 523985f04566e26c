"""Recording: every film is decoded once, shown to the target with all layers hooked, and to the annotator if it must."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.capture import LayerPlan, Recorder
from mammi.data import ProbingSet, pixel_fingerprint
from mammi.engine.kept_views import ViewTable
from mammi.engine.work import Engine, Piece
from mammi.errors import ImageError
from mammi.store.recorded import RecordedFilms
from mammi.store.shards import ActivationStore
from mammi.targets import Target
from mammi.types import Progress
from mammi.vlms import Annotator

__all__ = ["record_blocks"]

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True)
class _Loaded:
    """A film as the models see it, or why it could not be read."""

    view: Tensor | None
    shown: Tensor | None = None
    kept: NDArray[np.uint8] | None = None
    reason: str = ""
    fingerprint: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Batch:
    """What is left of a batch once the models have seen it; the pictures are dropped at once."""

    layers: dict[str, NDArray[np.float32]]
    embeddings: NDArray[np.float32] | None
    films: list[_Loaded]


@dataclass(frozen=True)
class _Block:
    """All that is stored of a block."""

    layers: dict[str, NDArray[np.float32]]
    record: dict[str, Any]
    embeddings: NDArray[np.float32] | None = field(repr=False)
    kept: NDArray[np.uint8] | None = field(repr=False)


@dataclass(frozen=True)
class RecordFilms:
    """The stage that shows films to the target.

    Attributes:
        target: the network under study.
        plans: the layers to record.
        images: the probing set.
        batch_size: films per forward pass.
        vlm: an annotator that every film is to be embedded by, or whose view of it is to be kept; None for neither.
        table: how a view is kept; None to embed at once.
    """

    target: Target
    plans: Sequence[LayerPlan]
    images: ProbingSet
    batch_size: int
    vlm: Annotator | None = None
    table: ViewTable | None = None

    @property
    def device(self) -> str:
        """Where the network runs."""
        return self.target.device

    def loader(self) -> "RecordFilms":
        """Return the stage with its models on the CPU."""
        vlm = None if self.vlm is None else replace(self.vlm, device="cpu")
        return replace(self, target=replace(self.target, device="cpu"), vlm=vlm)

    def load(self, row: int) -> _Loaded:
        """Decode one film and make every view of it that is needed; an unreadable one costs nothing but itself."""
        try:
            film = self.images.film(row)
            view = self.target.view(film)
        except ImageError as error:
            return _Loaded(None, reason=str(error))
        # Warnings go into a table for everyone; the file's name, and what a library quotes of its header, do not.
        name = self.images.paths[row].name
        warnings = tuple(_QUOTED.sub("'…'", text.replace(name, "the file")) for text in film.warnings)
        shown = None if self.vlm is None else self.vlm.view(film)
        kept = None
        if shown is not None and self.table is not None:
            kept, shown = self.table.pack(shown), None
        return _Loaded(view, shown, kept, fingerprint=pixel_fingerprint(film), warnings=warnings)

    @contextmanager
    def opened(self) -> Iterator[Callable[[list[_Loaded]], _Batch]]:
        """Hook the layers."""
        with Recorder(self.target.model, self.plans, self.target.precision) as recorder:

            def compute(films: list[_Loaded]) -> _Batch:
                readable = [place for place, film in enumerate(films) if film.view is not None]
                layers = {
                    plan.name: np.full((len(films), plan.n_units), np.nan, dtype=np.float32) for plan in self.plans
                }
                embeddings = None
                if readable:
                    views = torch.stack([film.view for film in films if film.view is not None])
                    for name, units in recorder.record(views).items():
                        layers[name][readable] = units.numpy()
                if self.vlm is not None and self.table is None:
                    rows = [film.shown for film in films if film.shown is not None]
                    width = self.vlm.d_embed
                    embedded = self.vlm.embed_images(torch.stack(rows)) if rows else torch.empty(0, width)
                    embeddings = np.full((len(films), embedded.shape[1]), np.nan, dtype=np.float32)
                    embeddings[readable] = embedded.numpy()
                left = [_Loaded(None, None, film.kept, film.reason, film.fingerprint, film.warnings) for film in films]
                return _Batch(layers, embeddings, left)

            yield compute

    def join(self, piece: Piece, outputs: list[_Batch]) -> _Block:
        """Return the block's arrays and its record."""
        films = [film for output in outputs for film in output.films]
        record = {
            "unreadable": {str(row): film.reason for row, film in zip(piece.rows, films, strict=True) if film.reason},
            "warnings": {
                str(row): list(film.warnings) for row, film in zip(piece.rows, films, strict=True) if film.warnings
            },
            "pixels": [film.fingerprint for film in films],
        }
        layers = {plan.name: np.concatenate([output.layers[plan.name] for output in outputs]) for plan in self.plans}
        rows = [output.embeddings for output in outputs if output.embeddings is not None]
        kept = None if self.table is None else self.table.stack([(film.kept, bool(film.reason)) for film in films])
        return _Block(layers, record, np.concatenate(rows) if rows else None, kept)


def record_blocks(
    target: Target,
    plans: Sequence[LayerPlan],
    images: ProbingSet,
    store: ActivationStore,
    *,
    batch_size: int,
    engine: Engine,
    progress: Progress,
    vlm: Annotator | None = None,
    table: ViewTable | None = None,
) -> None:
    """Show the target every film of the blocks that are not stored yet.

    An unreadable film costs nothing but itself: its rows hold NaN and its block's record the reason.

    Args:
        target: the network under study.
        plans: the layers to record.
        images: the probing set.
        store: where blocks go; its finished blocks are left alone.
        batch_size: films per forward pass.
        engine: who does the work.
        progress: told of every batch.
        vlm: an annotator that embeds every film in the same pass; or, with ``table``, whose view of it is kept.
        table: how a view is kept.
    """
    finished = store.done()
    seen = sum(len(store.rows(block)) for block in finished)
    aside = RecordedFilms(store.folder)

    def on_batch(n_films: int) -> None:
        nonlocal seen
        seen += n_films
        progress("recording films", seen, len(images))

    on_batch(0)
    work = RecordFilms(target, tuple(plans), images, batch_size, vlm, table)
    pieces = [Piece(block, store.rows(block)) for block in range(store.n_blocks) if block not in finished]
    for piece, block in engine.run(work, pieces, on_batch):
        aside.write(piece.number, block.embeddings, block.kept)
        store.write(piece.number, block.layers, block.record)
