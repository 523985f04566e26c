"""Weights of sparse autoencoders, in the layouts that three libraries publish, read as one encoder.

Known are SAELens (``sae_weights.safetensors`` with ``cfg.json``; also Gemma Scope's tensors), dictionary_learning
(``ae.pt`` with ``config.json``) and EleutherAI's sparsify (``sae.safetensors`` with ``cfg.json``). Settings are looked
for beside the weights; what they leave open is said in a note.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mammi.errors import TargetError
from mammi.weights_file import read_weights

__all__ = ["SaeWeights", "read_sae"]

_GATED = ("W_gate", "b_gate", "r_mag", "gate_bias")
_WAY_OUT = "fold it into the weights where they were made, and save them again"


@dataclass(frozen=True)
class SaeWeights:
    r"""An encoder: latents :math:`f = \sigma((x - s) W + b)` of a layer's vector :math:`x`.

    Attributes:
        weight: :math:`W`, float32, shape ``(width, n_latents)``.
        bias: :math:`b`, float32, shape ``(n_latents,)``.
        shift: :math:`s`, float32, shape ``(width,)``; zeros where the encoder subtracts nothing.
        k: for TopK, how many latents of one vector stay, the largest; 0 for the other two.
        threshold: for JumpReLU, float32, shape ``(n_latents,)``: a latent at or below it is 0; None for the other two.
        layout: whose layout the file has.
        notes: what was assumed, in words.
    """

    weight: Tensor
    bias: Tensor
    shift: Tensor
    k: int = 0
    threshold: Tensor | None = None
    layout: str = ""
    notes: tuple[str, ...] = ()


def read_sae(path: Path) -> SaeWeights:
    """Read the encoder of a sparse autoencoder.

    Args:
        path: the weights, safetensors or a torch file; or the folder that holds them with their settings.

    Raises:
        TargetError: if there is no such file, its layout is none of the three, or it asks for what is not done here
            (a gated encoder, activations normalised first).
    """
    path = _weights_of(path)
    state = read_weights(path)
    settings = _settings(path.parent)
    gated = sorted(set(_GATED) & set(state))
    if gated or settings.get("architecture") == "gated":
        raise TargetError(f"{str(path)!r} is a gated sparse autoencoder: expected ReLU, TopK or JumpReLU")
    if {"W_enc", "b_enc", "W_dec", "b_dec"} <= set(state):
        return _checked(_saelens(state, settings, path), path)
    if {"encoder.weight", "encoder.bias", "W_dec", "b_dec"} <= set(state):
        return _checked(_sparsify(state, settings, path), path)
    if {"encoder.weight", "encoder.bias", "decoder.weight"} <= set(state):
        return _checked(_dictionary_learning(state, settings, path), path)
    raise TargetError(
        f"{str(path)!r} is no sparse autoencoder in a known layout (found {', '.join(sorted(state)[:5])}): expected "
        "W_enc, b_enc, W_dec, b_dec (SAELens), or encoder.weight and encoder.bias with W_dec and b_dec (sparsify) or "
        "with decoder.weight (dictionary_learning)"
    )


def _weights_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    names = ("sae_weights.safetensors", "sae.safetensors", "ae.pt")
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise TargetError(f"The folder {str(path)!r} holds none of {', '.join(names)}: give the weights file itself")
    return found


def _settings(folder: Path) -> dict[str, Any]:
    """Return what stands beside the weights; of dictionary_learning's file the part about the trainer."""
    for name in ("cfg.json", "config.json"):
        if (folder / name).is_file():
            try:
                found = json.loads((folder / name).read_text(encoding="utf-8"))
            except (UnicodeDecodeError, ValueError) as error:
                raise TargetError(f"{str(folder / name)!r} is not JSON ({error}): copy it again") from error
            inner = found.get("trainer") if isinstance(found, dict) else None
            return dict(inner if isinstance(inner, dict) else found) if isinstance(found, dict) else {}
    return {}


def _saelens(state: dict[str, Tensor], settings: dict[str, Any], path: Path) -> SaeWeights:
    normalised = settings.get("normalize_activations", "none")
    if normalised not in ("none", None, False):
        raise TargetError(f"{str(path)!r} normalises activations first ({normalised!r}): {_WAY_OUT}")
    if settings.get("reshape_activations", "none") not in ("none", None):
        raise TargetError(f"{str(path)!r} reads attention heads joined, which no layer here gives: take another")
    weight, bias = state["W_enc"], state["b_enc"]
    threshold = state.get("threshold")
    notes: tuple[str, ...] = ()
    arguments = settings.get("activation_fn_kwargs") or {}
    k = settings.get("k", arguments.get("k", 0)) if threshold is None else 0
    if "topk" in _activation(settings) and threshold is None and not k:
        raise TargetError(f"{str(path)!r} keeps the k largest latents, and its cfg.json does not say k: put it there")
    if settings.get("rescale_acts_by_decoder_norm"):  # before the largest are chosen, so it is part of the encoder
        norms = state["W_dec"].norm(dim=1)
        weight, bias = weight * norms, bias * norms
    theirs = "dict_class" in settings and threshold is not None  # JumpReLU of dictionary_learning has these names too
    subtracts = False if theirs else settings.get("apply_b_dec_to_input")
    if subtracts is None:
        # SAELens subtracts by default, Gemma Scope never.
        subtracts = threshold is None
        told = "b_dec is subtracted first" if subtracts else "nothing is subtracted first"
        notes = (f"{path.name}: no cfg.json says apply_b_dec_to_input: assumed that {told}",)
    if theirs and threshold is not None:
        # It gives latents in units of their direction's length, and compares with the threshold before that.
        norms = state["W_dec"].norm(dim=1)
        weight, bias, threshold = weight * norms, bias * norms, threshold * norms
    shift = state["b_dec"] if subtracts else torch.zeros_like(state["b_dec"])
    return SaeWeights(weight, bias, shift, int(k), threshold, "dictionary_learning" if theirs else "SAELens", notes)


def _sparsify(state: dict[str, Tensor], settings: dict[str, Any], path: Path) -> SaeWeights:
    if settings.get("activation", "topk") != "topk":
        raise TargetError(f"{str(path)!r} has the activation {settings['activation']!r}: expected topk")
    k = settings.get("k", 0)
    if not k:
        raise TargetError(f"{str(path)!r} keeps the k largest latents, and no cfg.json beside it says k: put it there")
    shift = torch.zeros_like(state["b_dec"]) if settings.get("transcode") else state["b_dec"]
    return SaeWeights(state["encoder.weight"].T, state["encoder.bias"], shift, int(k), None, "sparsify")


def _dictionary_learning(state: dict[str, Tensor], settings: dict[str, Any], path: Path) -> SaeWeights:
    weight, bias = state["encoder.weight"].T, state["encoder.bias"]
    shift = state.get("b_dec", state.get("bias", torch.zeros(weight.shape[0])))
    k, threshold = 0, None
    notes: tuple[str, ...] = ()
    if "k" in state:
        k = int(state["k"])
        if "BatchTopK" in str(settings.get("dict_class", "")):
            # Trained on the largest of a batch; used with the threshold that this came to, so that rows stand alone.
            k, threshold = 0, state["threshold"].float().expand(len(bias)).clone()
        elif "dict_class" not in settings:
            notes = (f"{path.name}: no config.json says dict_class: assumed AutoEncoderTopK, k {k}",)
    return SaeWeights(weight, bias, shift, k, threshold, "dictionary_learning", notes)


def _activation(settings: dict[str, Any]) -> str:
    said = (settings.get(key) for key in ("architecture", "activation_fn", "activation_fn_str"))
    return " ".join(str(value).lower() for value in said)


def _checked(sae: SaeWeights, path: Path) -> SaeWeights:
    """Return it in float32 if its parts fit each other."""
    if sae.weight.ndim != 2:
        raise TargetError(f"{str(path)!r}: its encoder has shape {tuple(sae.weight.shape)}, expected two axes")
    width, n_latents = sae.weight.shape
    shapes = {"encoder bias": (sae.bias, n_latents), "decoder bias": (sae.shift, width)}
    if sae.threshold is not None:
        shapes["threshold"] = (sae.threshold, n_latents)
    for name, (value, length) in shapes.items():
        if tuple(value.shape) != (length,):
            raise TargetError(
                f"{str(path)!r}: its {name} has shape {tuple(value.shape)}, expected ({length},) beside an encoder of "
                f"{width} by {n_latents}"
            )
    if not 0 <= sae.k <= n_latents:
        raise TargetError(f"{str(path)!r}: k is {sae.k}, expected 1 to {n_latents}, the number of latents")
    if sae.threshold is not None and bool((sae.threshold < 0).any()):
        raise TargetError(f"{str(path)!r}: its threshold is below 0, as before training: it cannot be used yet")
    threshold = None if sae.threshold is None else sae.threshold.float()
    parts = (sae.weight.float().contiguous(), sae.bias.float(), sae.shift.float())
    return SaeWeights(*parts, sae.k, threshold, sae.layout, sae.notes)
