"""Every method without a model: for people who have activations and embeddings already."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.dissection import Areas
from mammi.functional.matching import concept_scores
from mammi.functional.similarity import unit_rows
from mammi.methods import Evidence, Verdict, create_method, match_units, select_units

__all__ = ["ArrayAnnotations", "annotate_arrays"]


@dataclass(frozen=True)
class ArrayAnnotations:
    """What a method says of each unit, as arrays.

    Attributes:
        examples: one int64 array of image indices per unit, by falling activation; empty for a unit that never varies
            or is NaN or infinite on some image.
        scores: float64, shape ``(n_units, n_concepts)``; NaN where a unit has no example.
        concepts: one int64 array of kept concept indices per unit, best first.
        formulas: one text per unit in which ``{m}`` stands for concept ``m``; None for methods that combine nothing.
        verdict: effect, q-value, stability and sense of each kept concept, and the reasons for "no concept"; None for
            methods that do not say how sure they are, and where no unit has an example. A unit without an example has
            no reason.
    """

    examples: list[NDArray[np.int64]]
    scores: NDArray[np.float64]
    concepts: list[NDArray[np.int64]]
    formulas: list[str] | None = None
    verdict: Verdict | None = None


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
    patients: ArrayLike | None = None,
    labels: ArrayLike | Tensor | None = None,
    areas: Areas | None = None,
    control: ArrayLike | Tensor | None = None,
    method: str = "mammi",
    **options: Any,  # noqa: ANN401 - each method has options of its own
) -> ArrayAnnotations:
    """Annotate units from arrays alone.

    Args:
        activations: pooled activations, shape ``(n_images, n_units)``. A unit with a value NaN or infinite gets no
            concept and costs no other unit anything.
        image_embeddings: shape ``(n_images, d_embed)``; rows of any length, none zero.
        concept_embeddings: shape ``(n_concepts, d_embed)``, or ``(n_concepts, n_templates, d_embed)`` to average
            several templates; rows of any length, none zero.
        template_embedding: the bare template, shape ``(d_embed,)`` or ``(n_templates, d_embed)``; None for plain
            cosines.
        patients: who is on each image, ``n_images`` names or numbers; None if each image has its own patient.
        labels: what each image shows, shape ``(n_images, n_concepts)``: 1 present, 0 absent, NaN unknown.
        areas: overlap of units and concepts, from `mammi.functional.dissection`, for the mask-based reference.
        control: activations of an untrained copy of the network on the same images, ``(n_images, n_control_units)``;
            units that never vary or are NaN or infinite on some image are left out.
        method: a name from :func:`mammi.list_methods`.
        **options: the method's own, for example ``example_threshold=0.93, concept_threshold=0.95`` of MAMMI.

    Returns:
        Examples, scores and kept concepts per unit, and how sure the method is if it says so.

    Raises:
        InputError: if a shape, a value or an option is wrong; the message names the argument.

    Example:
        >>> found = annotate_arrays([[0.0], [9.9], [10.0]], [[1, 0], [0, 2], [0, 3]], [[5, 0], [0, 1]])
        >>> found.examples[0].tolist(), found.concepts[0].tolist()
        ([2, 1], [1])
    """
    recipe = create_method(method, **options)
    measured = _tensor(activations, "activations", 2)
    if not len(measured):
        raise InputError("'activations' holds no image: show the network at least one")
    if not measured.shape[1]:
        raise InputError("'activations' holds no unit")
    images = unit_rows(_tensor(image_embeddings, "image_embeddings", 2), "image_embeddings")
    concepts = _texts(concept_embeddings, "concept_embeddings")
    if len(images) != len(measured):
        raise InputError(f"'activations' holds {len(measured)} images and 'image_embeddings' {len(images)}")
    if not len(concepts):
        raise InputError("'concept_embeddings' holds no concept")
    template = None
    if template_embedding is not None:
        bare = template_embedding if isinstance(template_embedding, Tensor) else np.asarray(template_embedding)
        template = _texts(bare.reshape(1, *([1] * (bare.ndim == 1)), *bare.shape), "template_embedding")[0]
    evidence = Evidence(
        activations=measured,
        films=images,
        concepts=concepts,
        template=template,
        patients=_patients(patients, len(images)),
        labels=_labels(labels, (len(images), len(concepts))),
        areas=areas,
        control=None if control is None else _control(_tensor(control, "control", 2), len(images)),
    )
    # Embeddings that do not fit each other are refused whatever the method makes of them.
    concept_scores(images[:0], concepts, template)
    if areas is not None and tuple(areas.both.shape) != (measured.shape[1], len(concepts)):
        raise InputError(
            f"'areas' must be of (n_units, n_concepts) = {(measured.shape[1], len(concepts))}, "
            f"got {tuple(areas.both.shape)}"
        )
    if recipe.needs == "labels" and evidence.labels is None:
        raise InputError(f"method {method!r} needs 'labels', (n_images, n_concepts) of 1, 0 and NaN")
    if recipe.needs == "areas" and areas is None:
        raise InputError(f"method {method!r} needs 'areas': masks or boxes, counted with mammi.functional.dissection")
    selection = select_units(recipe, lambda units: measured[:, units], measured.shape[1])
    scores = torch.full((measured.shape[1], len(concepts)), torch.nan, dtype=torch.float64)
    match = match_units(recipe, evidence, selection, scores=scores)
    return ArrayAnnotations(
        examples=[chosen.numpy() for chosen in selection.per_unit()],
        scores=scores.numpy(),
        concepts=[kept.numpy() for kept in match.concepts],
        formulas=match.formulas,
        verdict=match.verdict,
    )


def _texts(values: ArrayLike | Tensor, what: str) -> Tensor:
    """Return one row of unit length per concept: the mean over templates of rows of unit length, scaled again."""
    ndim = values.ndim if isinstance(values, Tensor) else np.ndim(values)
    if ndim != 3:
        return unit_rows(_tensor(values, what, 2), what)
    table = _tensor(values, what, 3)
    # Concept-major, and kept so: a row never mixes the templates of two concepts.
    rows = unit_rows(table.reshape(-1, table.shape[2]), what).reshape(table.shape)
    return unit_rows(rows.mean(dim=1), what)


def _patients(patients: ArrayLike | None, n_images: int) -> Tensor:
    """Number the patients."""
    if patients is None:
        return torch.arange(n_images)
    names = np.asarray(patients)
    if names.shape != (n_images,):
        raise InputError(f"'patients' must have one entry an image ({n_images}), got shape {names.shape}")
    return torch.from_numpy(np.unique(names, return_inverse=True)[1].astype(np.int64))


def _control(activations: Tensor, n_images: int) -> Tensor:
    """Return the control units that vary and are finite."""
    if len(activations) != n_images:
        raise InputError(f"'control' holds {len(activations)} images, 'activations' {n_images}")
    finite = activations[:, torch.isfinite(activations).all(dim=0)]
    return finite[:, finite.amax(dim=0) > finite.amin(dim=0)]


def _labels(labels: ArrayLike | Tensor | None, shape: tuple[int, int]) -> Tensor | None:
    if labels is None:
        return None
    table = _tensor(labels, "labels", 2).float()
    if tuple(table.shape) != shape:
        raise InputError(f"'labels' must be (n_images, n_concepts) = {shape}, got {tuple(table.shape)}")
    if not bool(((table == 0) | (table == 1) | table.isnan()).all()):
        raise InputError("'labels' must be 1, 0 or NaN: take a threshold of soft labels first")
    return table
