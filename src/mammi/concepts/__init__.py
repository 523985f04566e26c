"""Concepts: the words that units may be named with, how reports become them, and how they stand to one another."""

from mammi.concepts.concept import Concept
from mammi.concepts.concept_set import ConceptSet
from mammi.concepts.extract import build_concepts
from mammi.concepts.finding_lists import FINDING_LISTS
from mammi.concepts.ontology import Ontology, relation
from mammi.concepts.ontology_files import read_ontology
from mammi.concepts.reports import Report, Reports, read_reports

__all__ = [
    "FINDING_LISTS",
    "Concept",
    "ConceptSet",
    "Ontology",
    "Report",
    "Reports",
    "build_concepts",
    "read_ontology",
    "read_reports",
    "relation",
]
