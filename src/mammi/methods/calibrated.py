"""Ours: all films weighed by activation, concepts by their spread, hubs discounted; tested, resampled, or no concept."""

from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.chance import adjusted, extreme_p_values, patient_shuffles
from mammi.functional.selection import Selection, select_top
from mammi.functional.senses import two_groups
from mammi.methods.base import METHODS, Evidence, Match, Needs, Verdict
from mammi.methods.weighing import WeighedLayer

__all__ = ["Calibrated"]

#: Share of resamples in which a concept must be kept to be kept for good.
STABLE = 0.5
#: How far above the spread of an untrained network's effects on a concept a name must be, in standard deviations.
CONTROL_SPREADS = 3.5
#: Films in which a unit's senses are looked for: activations so many standard deviations above average, so many at most.
SENSE_LEVEL, SENSE_FILMS = 1.5, 200


@METHODS.register("calibrated", "all films weighed by activation; tested against shuffled patients, or no concept")
@dataclass(frozen=True)
class Calibrated:
    """Names a unit only if the name beats chance, an untrained network, and another draw of patients.

    The page on this method in the docs derives each step and says what was tried and left out.

    Attributes:
        false_discovery_rate: units that are named at most by chance, as a share of those named, in ``[0, 1]``.
        min_effect: effect on held-out patients that a name needs to exceed, in standard deviations of the concept's
            similarity, in ``[0, 10]``.
        min_patients: patients that a name must rest on: one over the sum of squared shares of the patients in the
            weight above the unit's average, rounded.
        concept_threshold: share of the best score that a concept must reach to be kept beside the best, in ``[0, 1]``.
        hub_strength: share of what a concept gives to half of the layer that is taken off, in ``[0, 1]``.
        control: compare with an untrained copy of the network, where there is one: a name needs an effect above that
            of each of its units on the same concept, and above 3.5 times the root mean square of theirs.
        shuffles: times that patients are dealt anew for the null, at least 20.
        resamples: times that patients are drawn anew for stability, at least 10.
        examples: films listed for a unit.
        seed: of everything random.
    """

    false_discovery_rate: float = 0.05
    min_effect: float = 0.2
    min_patients: int = 3
    concept_threshold: float = 0.95
    hub_strength: float = 0.5
    control: bool = True
    shuffles: int = 100
    resamples: int = 50
    examples: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges at once, so that a wrong option fails before any film is read."""
        shares = {
            "false_discovery_rate": (0, 1),
            "min_effect": (0, 10),
            "concept_threshold": (0, 1),
            "hub_strength": (0, 1),
        }
        for name, (low, high) in shares.items():
            value = getattr(self, name)
            if not isinstance(value, Real) or not low <= float(value) <= high:
                raise InputError(f"{name!r} must be a number from {low} to {high}, got {value!r}")
        if not isinstance(self.control, bool):
            raise InputError(f"'control' must be True or False, got {self.control!r}")
        for name, least in {"min_patients": 1, "shuffles": 20, "resamples": 10, "examples": 1, "seed": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or not least <= int(value) < 2**31:
                raise InputError(f"{name!r} must be a whole number of at least {least}, got {value!r}")

    @property
    def needs(self) -> Needs:
        """All films."""
        return "films"

    @property
    def whole_layer(self) -> bool:
        """Hubs and false discoveries are counted over the layer."""
        return True

    def select(self, activations: Tensor) -> Selection:
        """List the strongest films: they illustrate; every film counts."""
        return select_top(activations, self.examples)

    def match(self, evidence: Evidence, selection: Selection) -> Match:
        """Score every concept, keep those near the best that hold in resamples, and say why a unit has none."""
        layer = WeighedLayer.of(evidence.activations, evidence.films, evidence.concepts, self.hub_strength)
        first = layer.scores.argmax(dim=1)
        at = torch.arange(len(first))
        null = torch.stack(list(layer.shuffled_maxima(patient_shuffles(evidence.patients, self.shuffles, self.seed))))
        p_values = extreme_p_values(layer.raw, null)
        q_values = adjusted(p_values, p_values[at, first])
        bar = self._bar(evidence)
        effects = layer.effects()
        held_out = layer.held_out_effects(evidence.patients, self.seed)
        others = layer.unrelated(first)
        stability, next_stability = layer.stability(
            evidence.patients, others, self.concept_threshold, self.resamples, self.seed
        )
        n_patients = layer.effective_patients(evidence.patients).round()
        # What the choice of a name gained on its own films is taken off the other concepts' effects too; never added.
        effects = effects * (held_out / effects[at, first]).nan_to_num().clamp(0, 1)[:, None]
        effects[at, first] = held_out
        concepts: list[Tensor] = []
        verdict = Verdict([], [], [], [], [], [])
        for unit, best in enumerate(first.tolist()):
            reason = self._reason(
                int(n_patients[unit]),
                float(layer.scores[unit, best]),
                float(q_values[unit, best]),
                float(held_out[unit]),
                float(bar[best]),
                float(stability[unit, best]),
            )
            sure = stability[unit]
            # The effect of a concept that never varies is NaN: at a threshold of 0 its score of 0 would do.
            near = (layer.scores[unit] >= self.concept_threshold * layer.scores[unit, best]) & (effects[unit] > 0)
            kept = (near & (sure >= STABLE)).nonzero().flatten() if not reason else torch.empty(0, dtype=torch.int64)
            kept = kept[layer.scores[unit, kept].argsort(descending=True, stable=True)]
            sense, purity = torch.zeros(len(kept), dtype=torch.int64), torch.ones(len(kept), dtype=torch.float64)
            second = int(layer.scores[unit].masked_fill(~others[unit], -torch.inf).argmax())
            if (
                len(kept)
                and bool(others[unit, second])
                and float(q_values[unit, second]) <= self.false_discovery_rate
                and float(effects[unit, second]) > float(bar[second])
                and float(next_stability[unit, second]) >= STABLE
                and (pure := self._two_senses(layer, evidence.patients, unit, best, second)) is not None
            ):
                kept = torch.cat([kept[kept != second], torch.tensor([second])])
                sense = torch.where(kept == second, 2, 1)
                purity = torch.where(kept == second, pure[1], pure[0]).double()
                sure = torch.where(torch.arange(len(sure)) == second, next_stability[unit], sure)
            concepts.append(kept)
            verdict.effect.append((-1.0 if layer.absent[unit] else 1.0) * effects[unit, kept])
            verdict.q_value.append(q_values[unit, kept])
            verdict.stability.append(sure[kept])
            verdict.sense.append(sense)
            verdict.purity.append(purity)
            verdict.reasons.append(reason)
        formulas = [
            f"NOT {{{int(kept[0])}}}" if len(kept) and turned else ""
            for kept, turned in zip(concepts, layer.absent.tolist(), strict=True)
        ]
        return Match(layer.scores, concepts, formulas, verdict)

    def _bar(self, evidence: Evidence) -> Tensor:
        """Return the effect that a name needs, ``(n_concepts,)``: above what any untrained unit shows of that concept."""
        bar = torch.full((len(evidence.concepts),), float(self.min_effect), dtype=torch.float64)
        if not self.control or evidence.control is None or not evidence.control.shape[1]:
            return bar
        films = evidence.films if evidence.control_films is None else evidence.films[evidence.control_films]
        twin = WeighedLayer.of(evidence.control, films, evidence.concepts, 0.0)
        shown = torch.cat([twin.effects(), twin.effects(turned=True)]).nan_to_num()
        return torch.stack([bar, shown.amax(dim=0), CONTROL_SPREADS * shown.square().mean(dim=0).sqrt()]).amax(dim=0)

    def _reason(
        self, n_patients: int, score: float, q_value: float, effect: float, bar: float, stability: float
    ) -> str:
        """Say why a unit has no concept; ``""`` if it has one."""
        if n_patients < self.min_patients:
            count = max(1, n_patients)
            return f"it rests on {count} patient{'s' * (count > 1)}, {self.min_patients} are needed"
        if not q_value <= self.false_discovery_rate:
            return f"no concept is above chance (q = {q_value:.2f})"
        if not score > 0:
            return "it likes no concept better than half of its layer does"
        if not effect > bar:
            by = "is needed" if bar == self.min_effect else "is what an untrained copy of the network can show"
            return f"its effect on held-out patients is {effect:.2f}, {bar:.2f} {by}"
        if stability < STABLE:
            return f"another draw of patients gives other concepts ({1 - stability:.0%} of draws)"
        return ""

    def _two_senses(
        self, layer: WeighedLayer, patients: Tensor, unit: int, first: int, second: int
    ) -> tuple[float, float] | None:
        """Return how pure the groups of films of two senses are, or None if the films do not fall apart that way."""
        activation = layer.standard[:, unit]
        strong = activation.argsort(descending=True, stable=True)[:SENSE_FILMS]
        strong = strong[activation[strong] > SENSE_LEVEL]
        if len(strong) < 2 * self.min_patients:
            return None
        group = two_groups(layer.films[strong])
        similar = layer.similarities(torch.tensor([first, second]))[strong]
        is_first = similar[:, 0] > similar[:, 1]
        if is_first[group].double().mean() > is_first[~group].double().mean():
            group = ~group
        sizes = [len(torch.unique(patients[strong[part]])) for part in (~group, group)]
        if min(sizes) < self.min_patients:
            return None
        pure = float(is_first[~group].double().mean()), float((~is_first[group]).double().mean())
        return pure if min(pure) > 0.5 else None
