"""From what a layer puts out to one number per image and unit."""

from typing import Literal

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["MAP_RULES", "TOKEN_RULES", "MapRule", "TokenRule", "pool_map", "pool_tokens"]

MapRule = Literal["mean", "max"]
TokenRule = Literal["cls", "mean"]
MAP_RULES: tuple[MapRule, ...] = ("mean", "max")
TOKEN_RULES: tuple[TokenRule, ...] = ("cls", "mean")


def pool_map(maps: Tensor, rule: MapRule = "mean") -> Tensor:
    """Reduce feature maps to one value per image and channel.

    Args:
        maps: shape ``(n_images, n_channels, height, width)`` (or any number of spatial axes), floating.
        rule: ``"mean"`` (the global average pooling that MAMMI records) or ``"max"``.

    Returns:
        Shape ``(n_images, n_channels)``, float32.

    Raises:
        InputError: if ``maps`` has no spatial axis or ``rule`` is unknown.
    """
    if maps.ndim < 3:
        raise InputError(f"'maps' must be (n_images, n_channels, height, width), got {tuple(maps.shape)}")
    if rule not in MAP_RULES:
        raise InputError(f"pooling of a feature map must be one of {', '.join(MAP_RULES)}, got {rule!r}")
    if maps.dtype == torch.float32:
        flat = maps.flatten(2)
        return flat.mean(dim=2) if rule == "mean" else flat.amax(dim=2)
    places = tuple(range(2, maps.ndim))  # channels may lie last: flattening would copy the maps
    return maps.mean(dim=places, dtype=torch.float32) if rule == "mean" else maps.amax(dim=places).float()


def pool_tokens(tokens: Tensor, rule: TokenRule = "cls", n_prefix: int = 1) -> Tensor:
    """Reduce a sequence of tokens to one value per image and feature; tokens are never taken for channels.

    Args:
        tokens: shape ``(n_images, n_tokens, n_features)``, floating.
        rule: ``"cls"`` takes the first token, ``"mean"`` averages the patch tokens that follow the prefix.
        n_prefix: how many leading tokens are no patches (class and register tokens).

    Returns:
        Shape ``(n_images, n_features)``, float32.

    Raises:
        InputError: if ``tokens`` is not 3-D, ``rule`` is unknown, or there is no such token.
    """
    if tokens.ndim != 3:
        raise InputError(f"'tokens' must be (n_images, n_tokens, n_features), got {tuple(tokens.shape)}")
    if rule not in TOKEN_RULES:
        raise InputError(f"pooling of tokens must be one of {', '.join(TOKEN_RULES)}, got {rule!r}")
    if rule == "cls":
        if n_prefix < 1:
            raise InputError("pooling 'cls' needs a class token and this layer has none: pool it by 'mean'")
        return tokens[:, 0].float()
    if tokens.shape[1] <= n_prefix:
        raise InputError(f"{tokens.shape[1]} tokens leave no patch behind {n_prefix} prefix tokens: pool by 'cls'")
    return tokens[:, n_prefix:].float().mean(dim=1)
