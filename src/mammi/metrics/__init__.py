"""How good the names are where the truth is known: thin update / compute / merge classes over ``functional/``."""

from mammi.metrics.naming import NamingAccuracy

__all__ = ["NamingAccuracy"]
