"""Which axis of a layer's output is the units, told from its shape.

A convolution gives ``(n, channels, height, width)``, Swin and ConvNeXt blocks ``(n, height, width, channels)``, a
transformer ``(n, tokens, features)``. Taking places for channels would annotate nonsense without a word, so the axes
are told apart by looking twice: at another input size the places change and the units do not.
"""

from typing import Literal

__all__ = ["Layout", "Pooling", "default_pooling", "layout_of", "unit_axis"]

#: ``vector`` (n, units); ``map`` (n, units, h, w); ``map_last`` (n, h, w, units); ``tokens`` (n, tokens, units).
Layout = Literal["vector", "map", "map_last", "tokens"]
Pooling = Literal["none", "mean", "cls"]


def layout_of(
    shape: tuple[int, ...],
    other: tuple[int, ...] | None = None,
    *,
    hint: Literal["first", "last"] | None = None,
    aspect: tuple[int, int] = (1, 1),
) -> Layout | None:
    """Tell which axis of an output is the units.

    Args:
        shape: shape of the output, batch axis first.
        other: its shape for an input of another height and width, if the network takes one.
        hint: whether the layer that made it keeps channels first (convolution) or last (linear, layer norm); decides
            only where shapes cannot.
        aspect: height and width of the input, which maps share when there is no ``other``.

    Returns:
        The layout, ``None`` for outputs that are neither vectors, maps nor tokens.

    Example:
        >>> layout_of((1, 64, 7, 7)), layout_of((1, 7, 7, 64)), layout_of((1, 50, 192)), layout_of((1, 10))
        ('map', 'map_last', 'tokens', 'vector')
        >>> layout_of((1, 8, 8, 8), (1, 4, 4, 8)), layout_of((1, 64, 8, 8), (1, 64, 4, 4))
        ('map_last', 'map')
    """
    changed: set[int] = set()
    if other is not None and len(other) == len(shape):
        changed = {axis for axis in range(1, len(shape)) if shape[axis] != other[axis]}
    if len(shape) == 2:
        return "vector"
    if len(shape) == 3:
        # (n, features, tokens), from a 1-D convolution or a mixer, is none of ours.
        return None if changed == {2} or (not changed and hint == "first") else "tokens"
    if len(shape) != 4:
        return None
    if changed == {2, 3}:
        return "map"
    if changed == {1, 2}:
        return "map_last"
    first = _like(shape[2], shape[3], aspect)
    last = _like(shape[1], shape[2], aspect)
    if first and last:
        return "map_last" if hint == "last" else "map"
    if first or last:
        return "map" if first else "map_last"
    return "map" if hint == "first" else None  # (n, heads, tokens, features) and the like


def unit_axis(layout: Layout) -> int:
    """Return the axis of the units in a batched output.

    >>> [unit_axis(layout) for layout in ("vector", "map", "map_last", "tokens")]
    [1, 1, 3, 2]
    """
    return {"vector": 1, "map": 1, "map_last": 3, "tokens": 2}[layout]


def default_pooling(layout: Layout | None, *, has_class_token: bool = False) -> Pooling:
    """Return how an output becomes one number per unit: ``cls`` takes the first token."""
    if layout is None or layout == "vector":
        return "none"
    return "cls" if layout == "tokens" and has_class_token else "mean"


def _like(height: int, width: int, aspect: tuple[int, int]) -> bool:
    """Tell whether two sides have the proportions of the input (or are equal), allowing for rounding."""
    return height == width or (aspect[0] != aspect[1] and abs(height * aspect[1] - width * aspect[0]) <= max(aspect))
