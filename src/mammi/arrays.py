"""Every method without a model: for people who have activations and embeddings already."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.similarity import unit_rows
from mammi.methods import create_method

__all__ = ["ArrayAnnotations", "annotate_arrays"]


@dataclass(frozen=True)
class ArrayAnnotations:
    """What a method says of each unit, as arrays.

    Attributes:
        examples: one int64 array of image indices per unit, by falling activation; empty for a unit without any.
        scores: float64, shape ``(n_units, n_concepts)``; NaN rows where a unit has no example.
        concepts: one int64 array of kept concept indices per unit, best first.
    """

    examples: list[NDArray[np.int64]]
    scores: NDArray[np.float64]
    concepts: list[NDArray[np.int64]]


def _tensor(values: ArrayLike | Tensor, what: str, ndim: int) -> Tensor:
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
    else:
        if isinstance(values, np.ma.MaskedArray):
            raise InputError(f"{what!r} is a masked array: fill or drop what is masked first")
        try:
            array = np.asarray(values)
        except (TypeError, ValueError) as error:
            raise InputError(f"{what!r} is no array of numbers: {error}") from error
        if array.dtype.kind not in "fiub":
            raise InputError(f"{what!r} must be numbers, got dtype {array.dtype}")
        # A copy in this machine's own byte order; longer floats than torch has become its longest.
        single = array.dtype.kind == "f" and array.itemsize <= 4
        tensor = torch.from_numpy(np.array(array, dtype=np.float32 if single else np.float64, order="C"))
    if tensor.ndim != ndim:
        raise InputError(f"{what!r} must have {ndim} axes, got shape {tuple(tensor.shape)}")
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.double()


def annotate_arrays(
    activations: ArrayLike | Tensor,
    image_embeddings: ArrayLike | Tensor,
    concept_embeddings: ArrayLike | Tensor,
    template_embedding: ArrayLike | Tensor | None = None,
    *,
    method: str = "mammi",
    **options: Any,  # noqa: ANN401 - each method has options of its own
) -> ArrayAnnotations:
    """Annotate units from arrays alone.

    Args:
        activations: pooled activations, shape ``(n_images, n_units)``, finite.
        image_embeddings: shape ``(n_images, d_embed)``; rows of any length, none zero.
        concept_embeddings: shape ``(n_concepts, d_embed)``; rows of any length, none zero.
        template_embedding: the bare template, shape ``(d_embed,)`` or ``(1, d_embed)``; None for plain cosines.
        method: a name from :func:`mammi.list_methods`.
        **options: the method's own, for example ``example_threshold=0.93, concept_threshold=0.95`` of MAMMI.

    Returns:
        Examples, scores and kept concepts per unit.

    Raises:
        InputError: if a shape, a value or an option is wrong; the message names the argument.

    Example:
        >>> found = annotate_arrays([[0.0], [9.9], [10.0]], [[1, 0], [0, 2], [0, 3]], [[5, 0], [0, 1]])
        >>> found.examples[0].tolist(), found.concepts[0].tolist()
        ([2, 1], [1])
    """
    recipe = create_method(method, **options)
    measured = _tensor(activations, "activations", 2)
    images = unit_rows(_tensor(image_embeddings, "image_embeddings", 2), "image_embeddings")
    concepts = unit_rows(_tensor(concept_embeddings, "concept_embeddings", 2), "concept_embeddings")
    if len(images) != len(measured):
        raise InputError(f"'activations' holds {len(measured)} images and 'image_embeddings' {len(images)}")
    if not len(concepts):
        raise InputError("'concept_embeddings' holds no concept")
    template = None
    if template_embedding is not None:
        bare = template_embedding if isinstance(template_embedding, Tensor) else np.asarray(template_embedding)
        template = unit_rows(_tensor(bare.reshape(1, -1), "template_embedding", 2), "template_embedding")[0]
    selection = recipe.select(measured)
    match = recipe.match(selection, images, concepts, template)
    return ArrayAnnotations(
        examples=[chosen.numpy() for chosen in selection.per_unit()],
        scores=match.scores.numpy(),
        concepts=[kept.numpy() for kept in match.concepts],
    )
