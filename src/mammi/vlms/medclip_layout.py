"""What the checkpoints of MedCLIP and of FLAIR, which was written after it, have in common.

Both keep an image tower under ``vision_model.model.``, Bio_ClinicalBERT under ``text_model.model.`` and a linear
projection of each without bias. Both read a text the same way: the hidden states after the first, the second and the
last layer, each meant over the tokens, then meant over the three.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.vlms.annotator import Annotator
from mammi.vlms.bert import BertTower, bert_from, bert_tokenizer
from mammi.vlms.checkpoint import find_tokenizer_folder
from mammi.weights_file import load_weights

__all__ = ["TEXTS_ALONE", "embed_alone", "head_from", "mean_of_three", "mean_of_three_masked", "parts_of", "text_tower"]

#: Most tokens of a text, start and end among them, in both projects.
MAX_LENGTH = 77
#: The temperature of training: it changes no order of cosines, and nothing here reads it.
_TEMPERATURE = "logit_scale"
TEXTS_ALONE = (
    "its authors mean a text's tokens over padding too, so that a text's row depends on the texts beside it: "
    "each text is embedded alone, without padding"
)


def parts_of(state: dict[str, Tensor], prefixes: tuple[str, ...], source: str, model: str) -> list[dict[str, Tensor]]:
    """Sort a checkpoint's tensors by the part of the model they belong to.

    Args:
        state: tensors by name.
        prefixes: what the names of each part begin with; each takes the tensors that no earlier one took.
        source: what to call the weights in messages.
        model: what to call the model in messages.

    Returns:
        One mapping a prefix, in order, with the prefix taken off the names; none is empty.

    Raises:
        VlmError: if a part has no tensor, or a tensor no part.
    """
    parts: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in prefixes}
    unknown = []
    for name, tensor in state.items():
        prefix = next((known for known in prefixes if name.startswith(known)), None)
        if prefix is not None:
            parts[prefix][name.removeprefix(prefix)] = tensor
        elif name != _TEMPERATURE:
            unknown.append(name)
    missing = [prefix for prefix in prefixes if not parts[prefix]]
    if missing or unknown:
        wrong = [f"nothing under {', '.join(map(repr, missing))}"] if missing else []
        wrong += [f"{len(unknown)} tensors that {model} has not, such as {unknown[0]!r}"] if unknown else []
        raise VlmError(f"{source} is no checkpoint of {model}: it has {' and '.join(wrong)}: give the published file")
    return list(parts.values())


def mean_of_three(hidden: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """Pool as published: over every token, padding too, of hidden states 1, 2 and the last: ``(n, width)``."""
    return torch.stack([hidden[1], hidden[2], hidden[-1]]).mean(dim=2).mean(dim=0)


def mean_of_three_masked(hidden: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """Pool the same hidden states over a text's own tokens, start and end among them: ``(n, width)``."""
    weights = (mask / mask.sum(dim=1, keepdim=True)).to(hidden[0].dtype)
    return torch.stack([(hidden[layer] * weights[..., None]).sum(dim=1) for layer in (1, 2, -1)]).mean(dim=0)


def text_tower(
    state: dict[str, Tensor], project: nn.Module, weights: Path, spec: str, *, masked: bool = False
) -> BertTower:
    """Build the text tower.

    Args:
        state: the tensors of the BERT, by the names of transformers.
        project: from its width to the width of an embedding.
        weights: the file they came from, to look for a vocabulary beside.
        spec: what the user asked for, for messages.
        masked: whether padding is left out of the mean.

    Raises:
        VlmError: if the BERT is not whole, has fewer than two layers, or the vocabulary is absent or another one's.
    """
    bert = bert_from(state, str(weights))
    n_words = state["embeddings.word_embeddings.weight"].shape[0]
    folder = find_tokenizer_folder(weights, "emilyalsentzer/Bio_ClinicalBERT", spec)
    tokenizer = bert_tokenizer(folder, spec)
    if len(tokenizer) != n_words:
        raise VlmError(
            f"{spec}: the vocabulary in {str(folder)!r} has {len(tokenizer)} words, the text tower {n_words}: it is "
            "another model's; take the vocab.txt of 'emilyalsentzer/Bio_ClinicalBERT'"
        )
    if "encoder.layer.1.output.dense.weight" not in state:
        raise VlmError(f"{spec}: the text tower of {str(weights)!r} has one layer, its pooling needs two: it is cut")
    return BertTower(bert, tokenizer, MAX_LENGTH, mean_of_three_masked if masked else mean_of_three, project)


def head_from(state: dict[str, Tensor], source: str) -> nn.Linear:
    """Build a projection without bias from its one tensor, ``weight`` ``(d_embed, width)``.

    Raises:
        VlmError: if there are others.
    """
    weight = state.get("weight")
    rows, columns = weight.shape if weight is not None and weight.ndim == 2 else (1, 1)
    head = nn.Linear(columns, rows, bias=False)
    load_weights(head, state, source, error=VlmError)
    return head.float()


def embed_alone(annotator: Annotator) -> Annotator:
    """Make an annotator embed each text alone, and say so in its notes; return it."""
    annotator.text_batch = 1
    annotator.notes.append(f"{annotator.card.title or annotator.name}: {TEXTS_ALONE}")
    return annotator
