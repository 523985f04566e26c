"""A report for each film: indication, findings and impression, every sentence of known truth."""

from dataclasses import dataclass

import numpy as np

from mammi.phantoms.catalogue import FINDINGS, LUNG_FINDINGS
from mammi.phantoms.plan import Plan
from mammi.phantoms.wording import affirm, choose, claims_of, deny, noun_phrase, sayable

__all__ = ["Report", "write_report"]


@dataclass(frozen=True)
class Report:
    """The three sections of a report, each one or more sentences."""

    findings: str
    impression: str
    indication: str


#: Reasons for the film: complaints and events only, never a finding, so that no sentence is true by accident.
_INDICATIONS = (
    "Cough.",
    "Shortness of breath.",
    "Fever and cough for a week.",
    "Chest pain.",
    "Routine check before surgery.",
    "Follow-up.",
    "Weight loss.",
    "Fall from a ladder.",
    "Breathless on stairs.",
    "New arrival on the ward.",
    "Check after a procedure.",
    "Smoker with a long-standing cough.",
)
_SETTING = {
    ("PA", False): ("Upright frontal view.", "Frontal film in full view.", "PA film of the chest."),
    ("AP", False): ("AP film of the chest.", "Frontal film taken sitting."),
    ("AP", True): ("Portable film.", "Bedside AP film.", "Portable frontal view of the chest."),
}
_CLEAR = ("The lungs are clear.", "Clear lungs.", "Lungs are well aerated and clear.")
_BONES = ("The bones are intact.", "No bony abnormality.", "Ribs and clavicles are unremarkable.")
_MIDDLE = ("The mediastinum is unremarkable.", "Mediastinal contours are normal.", "The trachea is midline.")
_NORMAL = ("No acute abnormality.", "Normal chest.", "Normal film of the chest.", "Nothing acute.")
_DENIED = (
    "cardiomegaly",
    "effusion",
    "pneumothorax",
    "consolidation",
    "edema",
    "pneumonia",
    "nodule",
    "mass",
    "fibrosis",
)


def write_report(plan: Plan) -> Report:
    """Write the report of one film; the same plan always gives the same words.

    Every label that is present is affirmed once or more in the findings; of the absent ones some are denied and none
    is affirmed.
    """
    rng = np.random.default_rng([plan.view.seed, plan.index, 3])
    present = list(plan.findings)
    absent = [name for name in _DENIED if not plan.has(name)]
    lines = [affirm(sayable(finding, rng, 0.75), rng) for finding in present]
    lungs_clear = not any(plan.has(name) for name in LUNG_FINDINGS)
    if lungs_clear and rng.random() < 0.7:
        lines.append(choose(rng, _CLEAR))
    picked = [name for name in absent if rng.random() < 0.55]
    if len(picked) >= 3 and rng.random() < 0.5:
        joined = [name for name in picked if name != "cardiomegaly"][:3]
        lines.append(deny(joined, rng))
        picked = [name for name in picked if name not in joined]
    lines += [deny([name], rng) for name in picked]
    lines += [choose(rng, options) for options in (_BONES, _MIDDLE) if rng.random() < 0.35]
    lines = [lines[i] for i in rng.permutation(len(lines))]
    if rng.random() < 0.6:
        lines.insert(0, choose(rng, _SETTING[plan.view.projection, plan.view.portable]))
    if not lines:
        lines = [choose(rng, _NORMAL)]
    told = [finding for finding in present if finding.name in FINDINGS]
    told.sort(key=lambda finding: -finding.severity)
    summary = [f"{phrase[0].upper()}{phrase[1:]}." for phrase in (noun_phrase(claims_of(f), rng) for f in told)]
    impression = " ".join(summary) if summary else choose(rng, _NORMAL)
    return Report(" ".join(lines), impression, choose(rng, _INDICATIONS))
