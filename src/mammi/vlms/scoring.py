r"""Films and texts as rows whose products are an annotator's scores, so that every method works with every annotator.

With cosines these are the embeddings at unit length. An annotator that scores pairs itself (`mammi.types.Scorer`) is put
in the same form: a film's row is its scores with every concept, a concept's row picks its own column out of it,

.. math:: s_{nm} = \sum_j S_{nj}\, \delta_{jm},

so that every formula that reads films and concepts through their products holds, with :math:`S` for the cosines.
"""

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.similarity import unit_rows
from mammi.vlms.annotator import Annotator

__all__ = ["comparable", "refuse_too_many"]

#: Most concepts whose scores are held as rows: the methods hold a table of concepts by concepts.
CONCEPTS = 5_000
#: Most scores of films with concepts held at a time: 2 GiB in float64.
CELLS = 2**28


def comparable(
    vlm: Annotator, films: Tensor, texts: Tensor, n_concepts: int, n_templates: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return films, concepts and the bare template as rows whose products are the annotator's scores.

    Args:
        vlm: the annotator.
        films: float32 ``(n_films, d_image)``, rows that it gave; there may be none.
        texts: float32 ``(n_concepts * n_templates + n_bare, d_text)``, rows that it gave: every concept in every
            template, then the templates without a concept, as far as something is left of them.
        n_concepts: number of concepts.
        n_templates: number of templates, which are averaged: their rows at unit length, or their scores.

    Returns:
        Films ``(n_films, d)`` and concepts ``(n_concepts, d)``, float64; the bare template ``(d,)``, None where there is
        none, and always for an annotator that scores pairs itself.
    """
    asked = n_concepts * n_templates
    if vlm.scores_pairs:
        scores = vlm.score(films, texts[:asked]).double().reshape(len(films), n_concepts, n_templates).mean(dim=2)
        return scores, torch.eye(n_concepts, dtype=torch.float64), None
    rows = unit_rows(texts, "texts")
    concepts = unit_rows(rows[:asked].reshape(n_concepts, n_templates, -1).mean(dim=1), "texts")
    bare = rows[asked:]
    template = unit_rows(bare.mean(dim=0, keepdim=True), "template")[0] if len(bare) else None
    return (unit_rows(films, "films") if len(films) else concepts[:0]), concepts, template


def refuse_too_many(vlm: Annotator, n_films: int, n_concepts: int) -> None:
    """Refuse a job whose scores would not fit in memory.

    Raises:
        InputError: if the annotator scores pairs itself, and there are too many of them.
    """
    if vlm.scores_pairs and (n_concepts > CONCEPTS or n_films * n_concepts > CELLS):
        raise InputError(
            f"{vlm.name} scores every film with every concept by itself, and {n_films:,} films with {n_concepts:,} "
            f"concepts are too many to hold: give at most {min(CONCEPTS, CELLS // max(1, n_films)):,} concepts"
        )
