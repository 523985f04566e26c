"""How good the names are where the truth is known: thin update / compute / merge classes over ``functional/``."""

from mammi.metrics.agreement import UnitAgreement
from mammi.metrics.controls import (
    ControlRow,
    constant_label,
    control_table,
    frequency_matched,
    shuffled_concepts,
)
from mammi.metrics.label_agreement import LabelAgreement
from mammi.metrics.naming import NamingAccuracy
from mammi.metrics.ranking import Abstention, Hubness, TruthRanking
from mammi.metrics.sentences import SentenceEncoder

__all__ = [
    "Abstention",
    "ControlRow",
    "Hubness",
    "LabelAgreement",
    "NamingAccuracy",
    "SentenceEncoder",
    "TruthRanking",
    "UnitAgreement",
    "constant_label",
    "control_table",
    "frequency_matched",
    "shuffled_concepts",
]
