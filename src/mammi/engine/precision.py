"""In which numbers the models of a job compute: tried on its first films, where the job is long enough to gain by it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mammi.capture import LayerPlan, Recorder
from mammi.data import ProbingSet
from mammi.engine.trial import AUTO, Choice, Share, try_precisions
from mammi.errors import ImageError, InputError
from mammi.functional.precision import PRECISIONS, modules_of
from mammi.targets import Target
from mammi.types import Film, Progress, no_progress
from mammi.vlms import Annotator

__all__ = ["Precisions", "check_asked", "choose_precisions"]

#: Films tried with, at most.
FILMS = 16


@dataclass(frozen=True)
class Precisions:
    """The precisions of the two models of a job."""

    target: Choice
    annotator: Choice

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"precision: target {self.target}, annotator {self.annotator}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a manifest keeps."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: dict[str, Any] | None) -> "Precisions":
        """Return what a manifest keeps; runs of version 0.1 keep nothing and are float32."""
        if kept is None:
            return cls(Choice("float32"), Choice("float32"))
        return cls(Choice(**kept["target"]), Choice(**kept["annotator"]))


def check_asked(precision: str) -> None:
    """Raise `InputError` if there is no such precision to ask for."""
    if precision not in (AUTO, *PRECISIONS):
        raise InputError(f"'precision' must be one of {', '.join((AUTO, *PRECISIONS))}, got {precision!r}")


def choose_precisions(
    asked: str,
    target: Target,
    plans: Sequence[LayerPlan],
    vlm: Annotator,
    images: ProbingSet,
    *,
    n_embedded: int,
    batch_size: int,
    exact: bool = False,
    progress: Progress = no_progress,
) -> Precisions:
    """Choose in which numbers the two models of a job compute.

    Asked for ``"auto"``, a model computes in float32 unless the job would take it half a minute or more; then each
    precision is timed and compared with float32 on the first films that can be read, in turns, for a few seconds. The
    quickest is taken whose error is small in every layer (at most `mammi.engine.trial.MOST_ERROR`), that is 1.2 times
    quicker than what is more exact, and saves 20 seconds. Asked for a precision, that is taken, and its error measured.
    A model that cannot be copied, cast or run so computes in float32, and the choice says why.

    Args:
        asked: ``"auto"`` or one of `mammi.functional.precision.PRECISIONS`.
        target: the network under study, float32.
        plans: the layers.
        vlm: the annotator, float32.
        images: the probing set, all of which the target is shown.
        n_embedded: how many films it is to encode, about.
        batch_size: films per forward pass.
        exact: whether ``"auto"`` leaves bfloat16 out, for a method whose names hang on a few films each: there it swaps
            names that are nearly tied, and lets films in that lie on the line of selection.
        progress: told of every round while precisions are tried.

    Raises:
        InputError: if there is no such precision.
    """
    check_asked(asked)
    tried = ("float32-channels-last",) if exact else PRECISIONS[1:]
    films = _First(images, min(FILMS, batch_size))

    def record(model: Target, views: Tensor) -> dict[str, Tensor]:
        with Recorder(model.model, plans, model.precision) as recorder:
            return recorder.record(views)

    shown = Share[Target](
        len(images), lambda n: torch.stack([target.view(film) for film in films.take(n)]), record, tried
    )
    seen = Share[Annotator](
        n_embedded,
        lambda n: torch.stack([vlm.view(film) for film in films.take(n)]),
        lambda model, views: {"images": model.embed_images(views)},
        tried,
    )
    if not n_embedded:
        annotator = Choice("float32", "it is shown no film")
    elif not modules_of(vlm.model):
        annotator = Choice("float32", "it holds no network that could be cast")
    else:
        annotator = try_precisions(asked, vlm, seen, "embeddings", progress)
    return Precisions(try_precisions(asked, target, shown, "activations", progress), annotator)


class _First:
    """The first films that can be read, each decoded once, when it is asked for."""

    def __init__(self, images: ProbingSet, most: int) -> None:
        self.most = most
        self.known: list[Film] = []
        self._rest = self._readable(images)

    @staticmethod
    def _readable(images: ProbingSet) -> Iterator[Film]:
        for row in range(min(len(images), 4 * FILMS)):
            try:
                yield images.film(row)
            except ImageError:
                continue

    def take(self, count: int) -> list[Film]:
        """Return ``count`` of them, or as many as there are.

        Raises:
            ImageError: if none can be read.
        """
        while len(self.known) < min(count, self.most) and (film := next(self._rest, None)) is not None:
            self.known.append(film)
        if not self.known:
            raise ImageError("none of the first films can be read")
        return self.known[:count]
