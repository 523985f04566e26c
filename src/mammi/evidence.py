"""What a method is shown of a layer, whoever annotates it: the one place where evidence is put together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.functional.dissection import Areas
from mammi.functional.selection import Selection
from mammi.methods import Evidence, LayerMatch, Method, match_units
from mammi.store.shards import ActivationStore

__all__ = ["Basis", "read_columns", "texts_to_ask"]


@dataclass(frozen=True)
class Basis:
    """All that is known of the units and the films of a run before an annotator has seen them.

    Attributes:
        recipe: the method.
        store: the activations.
        chosen: int64, rising: columns of the stored activations, the films that are encoded.
        patients: int64, ``(n_chosen,)``: films with the same number are of one patient.
        labels: what is known of each concept on each film, ``(n_chosen, n_concepts)``; None without a label table.
        areas: how units and concepts overlap on the films with masks, by layer; empty without masks.
        control: units of an untrained copy and the places of its films among the encoded ones; None without a copy.
    """

    recipe: Method
    store: ActivationStore
    chosen: NDArray[np.int64]
    patients: Tensor
    labels: Tensor | None = None
    areas: Mapping[str, Areas] = field(default_factory=dict)
    control: tuple[Tensor, Tensor] | None = None

    def match(
        self,
        layer: str,
        selection: Selection,
        rows: tuple[Tensor, Tensor, Tensor | None],
        report: Callable[[int, int], None],
        scores: Tensor | None = None,
    ) -> LayerMatch:
        """Match the units of a layer.

        Args:
            layer: its name.
            selection: the examples, as columns of the stored activations, all of them among ``chosen``.
            rows: of one annotator: films ``(n_chosen, d)``, concepts ``(n_concepts, d)`` and the bare template ``(d,)``
                or None, as `Evidence` has them; no film where masks tell what a unit sees.
            report: told of every tile.
            scores: as for `match_units`.
        """
        films, concepts, template = rows
        compact = replace(selection, images=torch.from_numpy(self.chosen.searchsorted(selection.images.numpy())))
        evidence = Evidence(
            activations=films.new_empty((0, 0)),
            films=films,
            concepts=concepts,
            template=template,
            patients=self.patients,
            labels=self.labels,
            areas=self.areas.get(layer),
            control=self.control[0] if self.control else None,
            control_films=self.control[1] if self.control else None,
        )
        columns = None if self.recipe.needs == "examples" else partial(read_columns, self.store, layer)
        return match_units(self.recipe, evidence, compact, report, columns=columns, scores=scores)


def read_columns(store: ActivationStore, layer: str, units: Tensor) -> Tensor:
    """Read some units of a layer, ``(n_films, n)``."""
    return torch.from_numpy(store.read_units(layer, units.numpy())).T


def texts_to_ask(terms: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return every concept in every template, then the templates without a concept where something is left of them."""
    bare = [text for template in templates if (text := " ".join(template.replace("{}", " ").split()))]
    return [template.replace("{}", term) for term in terms for template in templates] + bare
