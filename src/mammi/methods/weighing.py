"""One layer weighed, a block of units at a time: what each unit needs of the films is a row as wide as an embedding."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mammi.functional.film_sums import CHUNK, film_covariance
from mammi.functional.similarity import check_widths
from mammi.functional.tiles import unit_tiles
from mammi.functional.tilt import concept_scales, standardised, tilt, unit_columns, upper_half_mean

__all__ = ["EFFECT_TEMPERATURE", "TEMPERATURES", "Ground", "WeighedLayer", "WeighedUnits"]

#: Temperatures tried for each unit: the softer is nearly a correlation, the sharper suits units that seldom fire.
TEMPERATURES = (0.5, 1.0)
#: Temperature at which effects are stated, the same for all units so that they can be compared.
EFFECT_TEMPERATURE = 1.0
#: A unit is said to fire when a concept is absent only if that is so many times as evident as any concept's presence.
ABSENCE_MARGIN = 2.0
#: Concepts whose similarities correlate at least so much over the films are related: two names for much the same films.
RELATED = 0.5
#: Values of a block, units times films or concepts: 64 MB in single precision. With fewer units in a block, dealing the
#: films anew would take longer than the products.
VALUES = 2**24


@dataclass(frozen=True)
class Ground:
    """The films and the concepts that the units of a layer are weighed on, and what is the same for all units.

    Attributes:
        films: unit rows, float64, ``(n_films, d_embed)``.
        concepts: unit rows, float64, ``(n_concepts, d_embed)``.
        centre: mean of the films, ``(d_embed,)``.
        covariance: of the films, ``(d_embed, d_embed)``.
        scales: by how much each concept counts: one over its spread and a share of the median's, ``(n_concepts,)``.
        spread: standard deviation of each concept's similarity, ``(n_concepts,)``.
    """

    films: Tensor
    concepts: Tensor
    centre: Tensor
    covariance: Tensor
    scales: Tensor
    spread: Tensor

    @classmethod
    def of(cls, films: Tensor, concepts: Tensor) -> "Ground":
        """Measure films and concepts.

        Raises:
            InputError: if their widths differ.
        """
        check_widths(films, concepts)
        covariance = film_covariance(films)
        return cls(films, concepts, films.mean(dim=0), covariance, *concept_scales(covariance, concepts))

    @cached_property
    def single(self) -> tuple[Tensor, Tensor | None]:
        """Films and concepts for what is computed again and again, float32: enough for chance, three times as quick.

        Centred films ``(n_films, d_embed)`` and concepts times their scales ``(n_concepts, d_embed)``; or, where films
        or concepts are so few that it is less to sum, the films' products with the concepts, and None.
        """
        n_films, (n_concepts, width) = len(self.films), self.concepts.shape
        few = n_films * n_concepts < (n_films + n_concepts) * width
        scaled = self.concepts.float().mul_(self.scales.float()[:, None])
        films = torch.empty((n_films, n_concepts if few else width))
        for start in range(0, n_films, CHUNK):
            part = (self.films[start : start + CHUNK] - self.centre).float()
            films[start : start + CHUNK] = part @ scaled.T if few else part
        return films, None if few else scaled

    def tiles(self, n_units: int) -> Iterator[slice]:
        """Yield blocks of units that fit memory beside the films and beside the concepts."""
        return unit_tiles(n_units, max(len(self.films), *self.concepts.shape), VALUES)

    def evidence(self, projections: Tensor) -> Tensor:
        """Return the evidence of every concept, ``(n_units, n_concepts)``, for units projected on the films."""
        return (projections @ self.concepts.T).mul_(self.scales)

    def effects(self, leans: Tensor) -> Tensor:
        """Return effects, ``(n_units, n_concepts)``, of mean films ``(n_units, d_embed)`` less the centre; NaN for none."""
        return (leans @ self.concepts.T).div_(torch.where(self.spread > 0, self.spread, torch.nan))

    def similarities(self, films: Tensor, concepts: Tensor) -> Tensor:
        """Return the standardised similarity of some films with some concepts, ``(len(films), len(concepts))``."""
        centred = self.films[films] - self.centre
        return centred @ self.concepts[concepts].T / self.spread[concepts].clamp(min=1e-300)

    def unrelated(self, first: Tensor) -> Tensor:
        """Tell which concepts are no other name for each unit's first: bool, ``(len(first), n_concepts)``."""
        deviation = self.spread.clamp(min=1e-300)
        named = self.concepts[first] / deviation[first][:, None]
        return ((named @ self.covariance) @ self.concepts.T).div_(deviation) < RELATED


@dataclass(frozen=True)
class WeighedUnits:
    """A block of the units of a layer, beside all films and all concepts.

    Attributes:
        ground: films and concepts.
        numbers: of the units in their layer, int64, ``(n_units,)``.
        standard: standardised activations, ``(n_films, n_units)``; turned over for units that fire when their concept
            is absent.
        weights: weights of the films at each unit's own temperature, ``(n_films, n_units)``.
        projections: films summed by centred weights of unit length, ``(n_units, d_embed)``.
        raw: evidence, ``(n_units, n_concepts)``.
        hub: what is taken off for the layer, as a share of a unit's largest evidence, ``(n_units, n_concepts)``.
        scores: evidence less the hubs' share, on the scale of a correlation, ``(n_units, n_concepts)``.
        absent: whether a unit fires when its concept is absent, ``(n_units,)``.
    """

    ground: Ground
    numbers: Tensor
    standard: Tensor
    weights: Tensor
    projections: Tensor
    raw: Tensor
    hub: Tensor
    scores: Tensor
    absent: Tensor

    def only(self, units: Tensor) -> "WeighedUnits":
        """Return some of the units."""
        films = (self.ground, self.numbers[units], self.standard[:, units], self.weights[:, units])
        concepts = (self.projections, self.raw, self.hub, self.scores, self.absent)
        return WeighedUnits(*films, *(table[units] for table in concepts))


@dataclass(frozen=True)
class WeighedLayer:
    """The evidence for the units of one layer: that a concept is present or, where that is far clearer, absent.

    Attributes:
        ground: films and concepts.
        columns: gives the activations of a slice of units, ``(n_films, n)``.
        projections: films summed by each unit's centred weights of unit length, ``(n_units, d_embed)``.
        largest: largest evidence of either sign that a unit has, ``(n_units,)``, above 0.
        heat: the temperature that finds most in each unit, ``(n_units,)``.
        absent: whether a unit fires when its concept is absent, ``(n_units,)``.
        hubs: what is taken off for the layer, as a share of a unit's largest evidence, for units of either side:
            ``(2, n_concepts)``, presence first.
    """

    ground: Ground
    columns: Callable[[slice], Tensor]
    projections: Tensor
    largest: Tensor
    heat: Tensor
    absent: Tensor
    hubs: Tensor

    @classmethod
    def of(
        cls, columns: Callable[[slice], Tensor], n_units: int, ground: Ground, hub_strength: float
    ) -> "WeighedLayer":
        """Weigh a layer.

        Args:
            columns: gives the activations of a slice of units, ``(n_films, n)``.
            n_units: how many there are.
            ground: films and concepts.
            hub_strength: share of what a concept gives to half of the layer that is taken off.

        Raises:
            InputError: if a unit is constant.
        """
        sides = torch.empty((2, n_units, ground.films.shape[1]), dtype=torch.float64)
        most, largest, heat = torch.empty((3, 2, n_units), dtype=torch.float64)
        for units in ground.tiles(n_units):
            standard = standardised(columns(units))
            for side, turned in enumerate((standard, -standard)):
                sides[side, units], most[side, units], largest[side, units], heat[side, units] = _sharpest(
                    turned, ground
                )
        hubs = torch.stack([_hubs(ground, sides[side] / largest[side][:, None]) for side in (0, 1)])
        absent = most[1] > ABSENCE_MARGIN * most[0]
        sides[0, absent] = sides[1, absent]
        return cls(
            ground=ground,
            columns=columns,
            projections=sides[0].clone(),
            largest=torch.where(absent, largest[1], largest[0]),
            heat=torch.where(absent, heat[1], heat[0]),
            absent=absent,
            hubs=hub_strength * hubs,
        )

    def tiles(self) -> Iterator[slice]:
        """Yield the blocks that the units are looked at in."""
        return self.ground.tiles(len(self.absent))

    def firsts(self) -> tuple[Tensor, Tensor]:
        """Return the concept that scores most in each unit, and its evidence: each ``(n_units,)``."""
        first, most = torch.empty(len(self.absent), dtype=torch.int64), torch.empty_like(self.largest)
        for units in self.tiles():
            raw, _, scores = self._scored(units)
            first[units] = scores.argmax(dim=1)
            most[units] = raw.gather(1, first[units, None])[:, 0]
        return first, most

    def block(self, units: slice) -> WeighedUnits:
        """Return some units, their activations read again."""
        absent = self.absent[units]
        standard = standardised(self.columns(units)).mul_(1 - 2 * absent.double())
        films = torch.arange(units.start, units.stop), standard, tilt(standard, self.heat[units])
        return WeighedUnits(self.ground, *films, self.projections[units], *self._scored(units), absent)

    def _scored(self, units: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return evidence, hubs and scores of some units, each ``(n, n_concepts)``."""
        raw, hub = self.ground.evidence(self.projections[units]), self.hubs[self.absent[units].long()]
        return raw, hub, (raw - self.largest[units, None] * hub).div_(len(self.ground.films) ** 0.5)


def _sharpest(standard: Tensor, ground: Ground) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Project units at the temperature that finds most in each, the softer one where they tie.

    Returns:
        Projections ``(n_units, d_embed)``, most evidence, largest evidence of either sign, temperature: ``(n_units,)``.
    """
    tried = []
    for heat in TEMPERATURES:
        projections = unit_columns(tilt(standard, heat)).T @ ground.films
        low, high = ground.evidence(projections).aminmax(dim=1)
        tried.append((projections, high, torch.maximum(high, -low).clamp(min=1e-300), torch.full_like(high, heat)))
    soft, sharp = tried
    better = sharp[1] > soft[1]
    best = [torch.where(better, b, a) for a, b in zip(soft[1:], sharp[1:], strict=True)]
    return torch.where(better[:, None], sharp[0], soft[0]), best[0], best[1], best[2]


def _hubs(ground: Ground, projections: Tensor) -> Tensor:
    """Return what half of the layer has of each concept, ``(n_concepts,)``, every unit on its own scale."""
    found = torch.empty_like(ground.scales)
    for concepts in unit_tiles(len(found), len(projections), VALUES // 4):
        relative = (ground.concepts[concepts] @ projections.T).mul_(ground.scales[concepts, None])
        found[concepts] = upper_half_mean(relative, dim=1)
    return found
