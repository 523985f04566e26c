"""How the outputs of a network follow from the units of one layer, over the films of a run."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mammi.capture import LayerPlan, Recorder, output_layers, plan_layers
from mammi.data import normalise_label
from mammi.engine.prefetch import decoded_batches
from mammi.errors import CaptureError, InputError, UnknownNameError
from mammi.explain.gradients import leaf_at, logits_of, no_way, unit_sums
from mammi.explain.heads import LinearHead, linear_head, output_head
from mammi.explain.models import run_films
from mammi.store.files import read_array, write_array
from mammi.store.run import Run
from mammi.targets import Target
from mammi.targets.layers import evaluating
from mammi.types import Progress, no_progress

__all__ = ["Account", "best_f1_threshold", "open_account", "run_plan"]

#: Films per forward pass.
BATCH = 16
#: Units whose contributions are added up together: bounds memory.
BLOCK = 64
#: Films whose contributions are found by gradients where they cannot be read off the weights, at most.
SAMPLE = 256
#: Contributions held in memory there, at most.
MOST_VALUES = 2**26


def run_plan(run: Run, target: Target, layer: str) -> LayerPlan:
    """Return how a run recorded one of its layers."""
    recorded = {str(known["name"]): known for known in run.manifest["layers"]}
    run._check_layer(layer)
    plan = plan_layers(target, [layer])[0]
    return replace(plan, pooling=recorded[layer]["pooling"])


@dataclass
class Account:
    r"""The logits of a run's films, and what each unit of a layer contributes to them.

    Where the outputs are a weighted sum of the units, a unit's contribution to output :math:`c` is
    :math:`a_i w_{ci}`, and contributions and bias add up to the logit. Elsewhere it is gradient times activation,
    :math:`\sum_p a_i(p)\, \partial z_c / \partial a_i(p)` over the places of the unit's map (first order; Ahn, Kim, Kim,
    *WWW*, CVPR 2024), on a sample of the films, and `rest` is what that leaves.

    Attributes:
        run: the run.
        target: its network.
        layer: the layer.
        plan: how it was recorded.
        outputs: names of the outputs, ``"output 3"`` where unnamed.
        head: the linear head; None where contributions are gradient times activation.
        logits: float64, shape ``(n_films, n_outputs)``: row i is film i of ``run.images``.
        films: int64, shape ``(n_known,)``, rising: films whose contributions are known; all of them with a head.
        link: what the network applies to logits: ``"none"``, ``"sigmoid"`` or ``"softmax"``.
    """

    run: Run
    target: Target = field(repr=False)
    layer: str
    plan: LayerPlan = field(repr=False)
    outputs: tuple[str, ...]
    head: LinearHead | None = field(repr=False)
    logits: NDArray[np.float64] = field(repr=False)
    films: NDArray[np.int64] = field(repr=False)
    link: str = "none"
    _sampled: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def exact(self) -> bool:
        """Whether contributions and bias add up to the logit by construction."""
        return self.head is not None

    @cached_property
    def activations(self) -> NDArray[np.float32]:
        """The layer's activations, memory-mapped: float32, shape ``(n_units, n_films)``."""
        return self.run.activations(self.layer)

    @property
    def n_units(self) -> int:
        """Number of units of the layer."""
        return len(self.activations)

    def output(self, name: str | int) -> int:
        """Return the number of an output, given its name in any case, or its number.

        Raises:
            UnknownNameError: if there is none.
        """
        if isinstance(name, int):
            if not 0 <= name < len(self.outputs):
                raise InputError(f"the network has outputs 0 to {len(self.outputs) - 1}, got {name}")
            return name
        known = [normalise_label(output) for output in self.outputs]
        if normalise_label(name) not in known:
            raise UnknownNameError.among("Class", name, self.outputs, f"Known: {', '.join(self.outputs)}.")
        return known.index(normalise_label(name))

    def contributions(self, output: int) -> NDArray[np.float64]:
        """Return what every unit contributes to one output: float64, shape ``(n_units, n_known)``."""
        if self.head is not None:
            shares: NDArray[np.float64] = np.asarray(self.activations, np.float64) * self.head.weight[output][:, None]
            return shares
        if self._sampled is None:
            raise InputError(f"the contributions of layer {self.layer!r} were not recorded: open the account again")
        return np.asarray(self._sampled[output], dtype=np.float64)

    def shares(self, output: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64]]:
        """Return contributions as a product, so that linear sums over films need no copy of a layer.

        Returns:
            Columns, float ``(n_units, n_known)``, and a factor for each unit, float64 ``(n_units,)``: a unit's contribution
            is its column times its factor.
        """
        if self.head is not None:
            return self.activations, self.head.weight[output]
        return self.contributions(output), np.ones(self.n_units)

    def carried(self, output: int, units: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return what some units, or all, contribute together to one output: float64, shape ``(n_known,)``."""
        columns, factors = self.shares(output)
        total = np.zeros(columns.shape[1])
        for start in range(0, self.n_units, BLOCK):
            part = slice(start, start + BLOCK)
            kept = slice(None) if units is None else units[part]
            total += factors[part][kept] @ np.asarray(columns[part][kept], dtype=np.float64)
        return total

    def rest(self, output: int) -> NDArray[np.float64]:
        """Return what the units leave of one output's logits: float64, shape ``(n_known,)``; the bias with a head."""
        if self.head is not None:
            return np.full(len(self.films), self.head.bias[output])
        left: NDArray[np.float64] = self.logits[self.films, output] - self.carried(output)
        return left

    @cached_property
    def labels(self) -> dict[str, NDArray[np.float64]]:
        """Per output that the run has labels of, 1, 0 or NaN for every film: float64, shape ``(n_films,)``."""
        known = {normalise_label(str(name)): name for name in self.run.labels.columns}
        named = {output: known.get(normalise_label(output)) for output in self.outputs}
        return {
            output: self.run.labels[column].to_numpy(dtype=np.float64) for output, column in named.items() if column
        }

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Per output that the run has labels of, the logit from which on it is called present: best F1 over the films."""
        return {
            output: best_f1_threshold(self.logits[:, self.outputs.index(output)], truth)
            for output, truth in self.labels.items()
            if (truth[np.isfinite(self.logits[:, self.outputs.index(output)])] == 1).any()
        }


def best_f1_threshold(logits: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    r"""Return the threshold :math:`t` with the best F1 of ``logit >= t`` against known labels, the highest if tied.

    Between two neighbouring logits the threshold lies half way.

    Args:
        logits: shape ``(n_films,)``.
        truth: 1, 0 or NaN (left out), at least one 1.
    """
    known = ~np.isnan(truth) & np.isfinite(logits)
    order = np.argsort(-logits[known], kind="stable")
    values, present = logits[known][order], truth[known][order]
    true, called = np.cumsum(present), np.arange(1, len(present) + 1)
    f1 = 2 * true / (called + present.sum())
    # Films with the same logit are called together: only the last of them is a place to cut.
    cut = np.append(values[1:] < values[:-1], True)
    best = int(np.argmax(np.where(cut, f1, -1.0)))
    return float(values[best] if best + 1 == len(values) else (values[best] + values[best + 1]) / 2)


def open_account(
    run: Run, target: Target, layer: str | None = None, *, sampled: bool = True, progress: Progress = no_progress
) -> Account:
    """Find what the units of a layer contribute to the outputs.

    Args:
        run: a complete run.
        target: its network, from `load_target`.
        layer: one of its layers; None for the last one recorded that feeds the outputs linearly, else the deepest that is no
            output.
        sampled: whether to find contributions by gradients where they cannot be read off the weights; without them the
            account knows logits, and `Account.contributions` raises.
        progress: told of films that must be shown to the network again.

    Raises:
        UnknownNameError: if the run holds no such layer.
        CaptureError: if the network's output is not one vector a film, the run holds no layer but outputs, or an output
            does not follow from the layer by gradients.
        ImageError: if films must be shown again and are not where they were.
    """
    if not target.n_outputs:
        raise CaptureError(f"{target.name} does not put out one vector a film: its outputs cannot be accounted for")
    ends = output_layers(target)
    own = output_head(target)
    if own is not None:
        ends |= {own.module}
    names = [name for name in run.layers if name not in ends] if layer is None else [layer]
    if not names:
        raise CaptureError(
            f"the run holds outputs only ({', '.join(run.layers)}): annotate a layer before them, for example the "
            "one that feeds them"
        )
    plans = {name: run_plan(run, target, name) for name in names}
    heads = {name: linear_head(target, plan) for name, plan in plans.items()}
    order = [name for name, _ in target.model.named_modules()]
    linear = [name for name in names if heads[name] is not None]
    # With a choice, units with maps go first: they can be shown on the film.
    chosen = max(linear or names, key=lambda n: (plans[n].layout != "vector", order.index(plans[n].module)))
    head = heads[chosen]
    outputs = target.output_names or tuple(f"output {i}" for i in range(target.n_outputs))
    films = np.arange(len(run.images), dtype=np.int64)
    if head is not None:
        logits = _of_head(run.activations(chosen), head)
        return Account(run, target, chosen, plans[chosen], outputs, head, logits, films, head.link)
    logits = _logits(run, target, own, ends, progress)
    link = own.link if own else "none"
    if not sampled:
        return Account(run, target, chosen, plans[chosen], outputs, None, logits, films[:0], link)
    values = target.n_outputs * plans[chosen].n_units
    count = max(1, min(len(films), SAMPLE, MOST_VALUES // values))
    films = np.unique(np.linspace(0, len(films) - 1, count).astype(np.int64))
    shares = _gradient_contributions(run, target, plans[chosen], own, films, progress)
    return Account(run, target, chosen, plans[chosen], outputs, None, logits, films, link, shares)


def _of_head(activations: NDArray[np.float32], head: LinearHead) -> NDArray[np.float64]:
    """Return the logits of all films, ``(n_films, n_outputs)``, without a copy of the layer in float64."""
    logits = np.tile(head.bias, (activations.shape[1], 1))
    for start in range(0, len(activations), BLOCK):
        part = slice(start, start + BLOCK)
        logits += np.asarray(activations[part], dtype=np.float64).T @ head.weight[:, part].T
    return logits


def _logits(
    run: Run, target: Target, own: LinearHead | None, ends: set[str], progress: Progress
) -> NDArray[np.float64]:
    """Return the logits of all films: as recorded, as kept from an earlier call, or by showing every film again."""
    wanted = own.module if own is not None else None
    for name in run.layers:
        if name == wanted or (wanted is None and name in ends):
            return np.asarray(run.activations(name), dtype=np.float64).T
    path = run.folder / "explain" / "logits.npy"
    if path.is_file():
        kept = read_array(path)
        if kept.shape == (len(run.images), target.n_outputs):
            return kept.astype(np.float64)
    images = run_films(run)
    found = []
    plan = [LayerPlan(own.module, "vector", "none", target.n_outputs)] if own is not None else []
    with Recorder(target.model, plan) as recorder, torch.inference_mode():
        for views in decoded_batches(lambda row: target.view(images.film(row)), range(len(images)), BATCH):
            batch = torch.stack(views).to(target.device)
            found.append(recorder.record(batch)[own.module] if own is not None else target.model(batch).float().cpu())
            progress("reading the outputs", sum(map(len, found)), len(images))
    logits = torch.cat(found).numpy()
    write_array(path, logits)
    return logits.astype(np.float64)


def _gradient_contributions(
    run: Run, target: Target, plan: LayerPlan, own: LinearHead | None, films: NDArray[np.int64], progress: Progress
) -> NDArray[np.float32]:
    """Return gradient times activation, float32 ``(n_outputs, n_units, n_known)``."""
    images = run_films(run)
    found = np.empty((target.n_outputs, plan.n_units, len(films)), dtype=np.float32)
    done = 0
    with evaluating(target.model), leaf_at(target.model, plan) as caught, logits_of(target, own) as logits:
        for views in decoded_batches(lambda row: target.view(images.film(row)), films.tolist(), BATCH):
            with torch.enable_grad():
                z = logits(torch.stack(views).to(target.device))
                for output in range(target.n_outputs):
                    try:
                        (slope,) = torch.autograd.grad(z[:, output].sum(), caught["leaf"], retain_graph=True)
                    except RuntimeError as error:
                        raise no_way(target, plan, output, error) from error
                    found[output, :, done : done + len(views)] = unit_sums(slope * caught["leaf"].detach(), plan).T
            done += len(views)
            progress("weighing the units", done, len(films))
    return found
