"""Ours: all films weighed by activation, concepts by their spread, hubs discounted; tested, resampled, or no concept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from numbers import Integral, Real

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.chance import ExtremeLaw, adjusted, patient_folds, patient_resamples, patient_shuffles
from mammi.functional.selection import Selection, select_top
from mammi.methods.base import METHODS, Evidence, Match, Needs, Verdict
from mammi.methods.confidence import (
    effective_patients,
    held_out_effects,
    shuffled_maxima,
    stability,
    untrained_effects,
)
from mammi.methods.two_senses import two_senses
from mammi.methods.weighing import Ground, WeighedLayer, WeighedUnits

__all__ = ["Calibrated"]

#: Parts that patients are dealt to, so that one part measures what the others chose.
FOLDS = 5
#: Share of resamples in which a concept must be kept to be kept for good.
STABLE = 0.5
#: How far above the spread of an untrained network's effects on a concept a name must be, in standard deviations.
CONTROL_SPREADS = 3.5


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
        blocks = list(self.match_layer(evidence, selection, lambda units: evidence.activations[:, units]))
        verdicts = [block.verdict for block in blocks if block.verdict]
        return Match(
            torch.cat([block.scores for block in blocks]),
            [kept for block in blocks for kept in block.concepts],
            [formula for block in blocks for formula in block.formulas or ()],
            Verdict(*([one for part in verdicts for one in getattr(part, field.name)] for field in fields(Verdict))),
        )

    def match_layer(
        self, evidence: Evidence, selection: Selection, columns: Callable[[slice], Tensor]
    ) -> Iterator[Match]:
        """Do so for blocks of units in turn: the layer is read three times, and little of it is kept in between.

        Args:
            evidence: films, concepts, patients and the untrained control.
            selection: the examples of the units, none of which is constant.
            columns: gives the activations of a slice of the units, ``(n_films, n)``.

        Yields:
            What is said of consecutive blocks of units.
        """
        patients, ground = evidence.patients, Ground.of(evidence.films, evidence.concepts)
        bar = self._bar(evidence, ground)
        layer = WeighedLayer.of(columns, selection.n_units, ground, self.hub_strength)
        first, most = layer.firsts()
        # Dealt again for every block: the same deals, and none is held for longer than it is used.
        null = [
            shuffled_maxima(columns(units), ground, patient_shuffles(patients, self.shuffles, self.seed))
            for units in layer.tiles()
        ]
        law = ExtremeLaw.of(torch.cat(null, dim=1))
        tests = _Tests(patients, first, law, law.p_values(most, torch.arange(len(first))), bar)
        for units in layer.tiles():
            yield self._say(layer.block(units), tests)

    def _say(self, block: WeighedUnits, tests: "_Tests") -> Match:
        """Say what a block of units is."""
        first = tests.first[block.numbers]
        best = torch.arange(len(first)), first
        held_out, leans = held_out_effects(block, patient_folds(tests.patients, FOLDS, self.seed))
        said = (
            effective_patients(block, tests.patients).round(),
            block.scores[best],
            tests.q_values(block.raw[best], block.numbers),
            held_out,
            tests.bar[first],
        )
        named = [_Named.nothing(self._reason(*one)) for one in zip(*(x.tolist() for x in said), strict=True)]
        hopeful = torch.tensor([unit for unit, one in enumerate(named) if not one.reason], dtype=torch.int64)
        if len(hopeful):
            names = self._names(block.only(hopeful), first[hopeful], held_out[hopeful], leans[hopeful], tests)
            for unit, name in zip(hopeful.tolist(), names, strict=True):
                named[unit] = name
        verdict = Verdict(
            effect=[-one.effect if absent else one.effect for one, absent in zip(named, block.absent, strict=True)],
            q_value=[one.q_value for one in named],
            stability=[one.stability for one in named],
            sense=[one.sense for one in named],
            purity=[one.purity for one in named],
            reasons=[one.reason for one in named],
        )
        formulas = [
            f"NOT {{{int(one.concepts[0])}}}" if len(one.concepts) and absent else ""
            for one, absent in zip(named, block.absent.tolist(), strict=True)
        ]
        return Match(block.scores, [one.concepts for one in named], formulas, verdict)

    def _names(
        self, block: WeighedUnits, first: Tensor, held_out: Tensor, leans: Tensor, tests: "_Tests"
    ) -> Iterator["_Named"]:
        """Yield the concepts of units whose first concept passed all tests but that of other draws."""
        every, scores = torch.arange(len(first)), block.scores
        best = every, first
        effects = block.ground.effects(leans)
        # What the choice of a name gained on its own films is taken off the other concepts' effects too; never added.
        effects *= (held_out / effects[best]).nan_to_num().clamp(0, 1)[:, None]
        effects[best] = held_out
        others = block.ground.unrelated(first)
        second = every, scores.masked_fill(~others, -torch.inf).argmax(dim=1)
        # The effect of a concept that never varies is NaN: at a threshold of 0 its score of 0 would do.
        rows, concepts = ((scores >= self.concept_threshold * scores[best][:, None]) & (effects > 0)).nonzero().T
        near = rows, concepts
        draws = patient_resamples(tests.patients, self.resamples, self.seed)
        sure, next_sure = stability(block, draws, near, others, second[1], self.concept_threshold)
        tables = [
            (at[1], effects[at], tests.q_values(block.raw[at], block.numbers[at[0]]), steady)
            for at, steady in ((near, sure), (second, next_sure))
        ]
        _, next_effects, next_q_values, _ = tables[1]
        good = others[second] & (next_q_values <= self.false_discovery_rate) & (next_sure >= STABLE)
        good &= next_effects > tests.bar[second[1]]
        ends = torch.bincount(near[0], minlength=len(first)).cumsum(0).tolist()
        for unit, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            own, other = [column[start:end] for column in tables[0]], [column[unit : unit + 1] for column in tables[1]]
            steady = float(own[3][own[0] == first[unit]])
            if steady < STABLE:
                yield _Named.nothing(f"another draw of patients gives other concepts ({1 - steady:.0%} of draws)")
                continue
            order = scores[unit, own[0]].argsort(descending=True, stable=True)
            order = order[own[3][order] >= STABLE]
            own = [column[order] for column in own]
            pure = None
            if good[unit]:
                pair = int(first[unit]), int(other[0])
                pure = two_senses(block, unit, *pair, tests.patients, self.min_patients)
            sense, purity = torch.zeros_like(own[0]), torch.ones_like(own[1])
            if pure is not None:
                own = [torch.cat([x[own[0] != other[0]], y]) for x, y in zip(own, other, strict=True)]
                sense, purity = torch.ones_like(own[0]), torch.full_like(own[1], pure[0])
                sense[-1], purity[-1] = 2, pure[1]
            yield _Named(own[0], own[1], own[2], own[3], sense, purity)

    def _bar(self, evidence: Evidence, ground: Ground) -> Tensor:
        """Return the effect that a name needs, ``(n_concepts,)``: above what any untrained unit shows of that concept."""
        bar = torch.full((len(evidence.concepts),), float(self.min_effect), dtype=torch.float64)
        if not self.control or evidence.control is None or not evidence.control.shape[1]:
            return bar
        rows = evidence.control_films
        twin = ground if rows is None else Ground.of(evidence.films[rows], evidence.concepts)
        most, typical = untrained_effects(evidence.control, twin)
        return torch.maximum(bar, torch.maximum(most, CONTROL_SPREADS * typical))

    def _reason(self, n_patients: float, score: float, q_value: float, effect: float, bar: float) -> str:
        """Say why a unit has no concept; ``""`` if it may have one."""
        if n_patients < self.min_patients:
            count = max(1, int(n_patients))
            return f"it rests on {count} patient{'s' * (count > 1)}, {self.min_patients} are needed"
        if not q_value <= self.false_discovery_rate:
            return f"no concept is above chance (q = {q_value:.2f})"
        if not score > 0:
            return "it likes no concept better than half of its layer does"
        if not effect > bar:
            by = "is needed" if bar == self.min_effect else "is what an untrained copy of the network can show"
            return f"its effect on held-out patients is {effect:.2f}, {bar:.2f} {by}"
        return ""


@dataclass(frozen=True)
class _Tests:
    """What the tests of all units of a layer rest on.

    Attributes:
        patients: number of each film's patient.
        first: the concept that scores most in each unit, ``(n_units,)``.
        law: what each unit finds by chance.
        family: p-values of the firsts, ``(n_units,)``: all the tests that false discoveries are counted among.
        bar: the effect that a name needs, ``(n_concepts,)``.
    """

    patients: Tensor
    first: Tensor
    law: ExtremeLaw
    family: Tensor
    bar: Tensor

    def q_values(self, evidence: Tensor, units: Tensor) -> Tensor:
        """Return the q-values of evidence, ``(n,)``, each for the unit of that number."""
        return adjusted(self.law.p_values(evidence, units), self.family)


@dataclass(frozen=True)
class _Named:
    """What is said of one unit: columns as in a verdict, one entry a concept that is kept."""

    concepts: Tensor
    effect: Tensor
    q_value: Tensor
    stability: Tensor
    sense: Tensor
    purity: Tensor
    reason: str = ""

    @classmethod
    def nothing(cls, reason: str) -> "_Named":
        """Say why a unit has no concept."""
        whole, number = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
        return cls(whole, number, number, number, whole, number, reason)
