"""A model tried in several precisions on the first items of a job: how long each takes, and by how much each errs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from mammi.errors import MammiError
from mammi.functional.precision import PRECISIONS
from mammi.targets import Target
from mammi.types import Progress
from mammi.vlms import Annotator

__all__ = ["AUTO", "MOST_ERROR", "Choice", "Share", "spread_error", "try_precisions"]

#: What asks for a trial.
AUTO = "auto"
#: Largest error of a layer that is taken, a share of its spread over the films: noise of a 400th of the variance, which
#: leaves a layer's activations correlated by 0.9988 with those in float32.
MOST_ERROR = 0.05
#: How much quicker than what is more exact a precision must be.
QUICKER = 1.2
#: Seconds that a precision must save on the job.
WORTH = 20.0
#: Below this many seconds in float32 nothing is tried, nor if the job is less than so many times the trial: that calls
#: each precision twice, or only once where it takes long.
SHORT, WORTH_TRYING = 30.0, 5.0
#: Items that the error of a precision asked for is measured on.
ASKED = 4
#: Rounds; seconds of a single call, and of all rounds, about.
ROUNDS, CALL_SECONDS, ROUND_SECONDS = 3, 1.5, 4.0

M = TypeVar("M", Target, Annotator)


@dataclass(frozen=True)
class Choice:
    """The precision of one model, and why.

    Attributes:
        precision: one of `mammi.functional.precision.PRECISIONS`.
        why: in words.
        seconds: what the whole job was estimated to take this model, by precision timed; empty if none was.
        errors: by precision tried, the `spread_error` of each layer, or of ``images``.
    """

    precision: str
    why: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the choice and its reason."""
        return f"{self.precision} ({self.why})" if self.why else self.precision


@dataclass(frozen=True)
class Share(Generic[M]):
    """What a job asks of a model.

    Attributes:
        total: how many items the whole job has.
        take: returns the first of them, as many as asked for or as there are to try with.
        run: what the model does to them: outputs by name, float32 ``(n, units)`` on the CPU.
        precisions: what ``"auto"`` tries beside float32, from the most exact to the least.
    """

    total: int
    take: Callable[[int], Any]
    run: Callable[[M, Any], dict[str, Tensor]]
    precisions: Sequence[str] = PRECISIONS[1:]


@dataclass
class _Tried(Generic[M]):
    """A share with the items it is tried on."""

    share: Share[M]
    items: Any

    def timed(self, model: M) -> tuple[float, dict[str, Tensor]]:
        """Return the seconds that the whole job would take at this pace, and what came out."""
        began = time.perf_counter()
        outputs = self.share.run(model, self.items)
        return (time.perf_counter() - began) * self.share.total / len(self.items), outputs


def try_precisions(asked: str, model: M, share: Share[M], what: str, progress: Progress) -> Choice:
    """Choose the precision of one model; see `mammi.engine.precision.choose_precisions`.

    Args:
        asked: ``"auto"`` or one of `mammi.functional.precision.PRECISIONS`.
        model: in float32.
        share: its part of the job.
        what: it puts out, in words.
        progress: told of every round.
    """
    if asked == "float32":
        return Choice("float32", "as asked")
    try:
        return _try(asked, model, share, what, progress)
    except MammiError as error:
        return Choice("float32", f"nothing could be tried: {error}")  # whatever is wrong, the job itself will say it


def _try(asked: str, model: M, share: Share[M], what: str, progress: Progress) -> Choice:
    if asked != AUTO:
        return _as_asked(asked, model, share, what)
    few = _Tried(share, share.take(2))
    few.timed(model)  # libraries prepare themselves in a first call
    pace, _ = few.timed(model)
    each = max(pace, 1e-6) / share.total
    if pace < SHORT:
        return Choice("float32", f"{pace:.0f} s of work", {"float32": pace})
    part = _Tried(share, share.take(max(4, int(CALL_SECONDS / each))))
    if pace < WORTH_TRYING * 2 * len(PRECISIONS) * len(part.items) * each:
        return Choice("float32", f"{pace:.0f} s of work", {"float32": pace})
    began = time.perf_counter()
    plain, exact = part.timed(model)
    firsts = {"float32": plain}
    candidates: dict[str, M] = {"float32": model}
    errors: dict[str, dict[str, float]] = {}
    refused: dict[str, str] = {}
    for precision in share.precisions:
        try:
            lowered, first, found = _lowered(model, precision, part, exact)
        except _RefusedError as error:
            refused[precision] = str(error)
            continue
        errors[precision] = found
        candidates[precision] = lowered
        firsts[precision] = first
        # A processor without these numbers computes them in software, many times slower: that need not be timed again.
        if first > 4 * plain and (slower := part.timed(lowered)[0] / plain) > 2:
            refused[precision] = f"{precision} is {1 / slower:.1g} times as quick"
            del candidates[precision], firsts[precision]
    late = time.perf_counter() - began > 2 * ROUND_SECONDS
    progress("trying precisions", ROUNDS if late else 0, ROUNDS)
    took = firsts if late else _in_turns(candidates, part, progress)
    return _pick(took, errors, refused, what, share.precisions)


def _as_asked(asked: str, model: M, share: Share[M], what: str) -> Choice:
    """Take the precision asked for, its error measured on a few items; float32 where the model will not."""
    part = _Tried(share, share.take(ASKED))
    _, exact = part.timed(model)
    try:
        _, _, errors = _lowered(model, asked, part, exact)
    except _RefusedError as error:
        return Choice("float32", str(error))
    return Choice(asked, f"as asked; {_words(what, errors)}", {}, {asked: errors})


class _RefusedError(Exception):
    """A model that does not work in a precision, and why."""


def _lowered(model: M, precision: str, part: _Tried[M], exact: dict[str, Tensor]) -> tuple[M, float, dict[str, float]]:
    """Return a model in a precision, its seconds for the whole job, and its errors."""
    try:
        lowered = model.at(precision)
        seconds, outputs = part.timed(lowered)
    except Exception as error:
        raise _RefusedError(f"{precision} fails: {' '.join(str(error).split())[:200]}") from error
    errors = {name: spread_error(rows, exact[name]) for name, rows in outputs.items()}
    if float("inf") in errors.values():
        raise _RefusedError(f"{precision} gives numbers that are not finite, or differ where nothing varies")
    return lowered, seconds, errors


def _in_turns(candidates: dict[str, M], part: _Tried[M], progress: Progress) -> dict[str, float]:
    """Return the seconds of the whole job in each precision: medians of calls in turns, so that all share a busy moment."""
    paces: dict[str, list[float]] = {precision: [] for precision in candidates}
    began = time.perf_counter()
    for turn in range(ROUNDS):
        for precision, model in candidates.items():
            paces[precision].append(part.timed(model)[0])
        late = time.perf_counter() - began > ROUND_SECONDS
        progress("trying precisions", ROUNDS if late else turn + 1, ROUNDS)
        if late:
            break
    return {precision: median(found) for precision, found in paces.items()}


def _pick(
    took: dict[str, float],
    errors: dict[str, dict[str, float]],
    refused: dict[str, str],
    what: str,
    tried: Sequence[str],
) -> Choice:
    """Go from the most exact to the least, and take a step where it pays."""
    best, against = "float32", dict(refused)
    for precision in tried:
        if precision not in took:
            continue
        ratio, saved = took[best] / took[precision], took[best] - took[precision]
        if max(errors[precision].values()) > MOST_ERROR:
            limit = f"at most {100 * MOST_ERROR:.0f} % is taken"
            against[precision] = f"{precision}: {_words(what, errors[precision])}, {limit}"
        elif ratio < QUICKER:
            against[precision] = f"{precision} is {took['float32'] / took[precision]:.1f} times as quick"
        elif saved < WORTH:
            against[precision] = f"{precision} would save {saved:.0f} s"
        else:
            best = precision
    if best == "float32":
        return Choice(best, against[tried[-1]], took, errors)
    why = f"{took['float32'] / took[best]:.1f} times quicker; {_words(what, errors[best])}"
    return Choice(best, why, took, errors)


def spread_error(rows: Tensor, exact: Tensor) -> float:
    r"""Return :math:`\|A - A_{32}\| / \|A_{32} - \bar A_{32}\|`, the means over films.

    Args:
        rows: float32 ``(n_films, n_units)``.
        exact: the same computed in float32; units that are not finite there are left out.

    Returns:
        0 where they are equal; infinite where ``rows`` is not finite, or differs though nothing varies.
    """
    usable = torch.isfinite(exact).all(dim=0)
    difference = float((rows[:, usable].double() - exact[:, usable].double()).norm())
    spread = float((exact[:, usable].double() - exact[:, usable].double().mean(dim=0)).norm())
    if difference == 0:
        return 0.0
    return difference / spread if spread > 0 and difference < float("inf") else float("inf")


def _words(what: str, errors: dict[str, float]) -> str:
    return f"{what} differ by {100 * max(errors.values(), default=0.0):.2g} % of their spread"
