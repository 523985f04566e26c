"""The self-test of an annotator: is it the same model as before, is it steady, and which concepts can it tell?"""

from mammi.checking.check import check_annotator
from mammi.checking.golden import Golden, compare_golden
from mammi.checking.result import Check, CheckedConcept

__all__ = ["Check", "CheckedConcept", "Golden", "check_annotator", "compare_golden"]
