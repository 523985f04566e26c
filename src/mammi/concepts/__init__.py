"""Concepts: the words that units may be named with, and how reports become them."""

from mammi.concepts.concept_set import Concept, ConceptSet
from mammi.concepts.extract import build_concepts
from mammi.concepts.reports import Report, Reports, read_reports

__all__ = ["Concept", "ConceptSet", "Report", "Reports", "build_concepts", "read_reports"]
