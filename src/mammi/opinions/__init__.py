"""Second opinions on a run: other annotators and other wordings, asked about the same units with the same examples."""

from mammi.opinions.asking import refuse_opinions
from mammi.opinions.second import ask_second_opinions

__all__ = ["ask_second_opinions", "refuse_opinions"]
