"""BERT text towers as checkpoints of the field hold them: built from their tensors, without asking any hub.

Bio_ClinicalBERT is the tower of MedCLIP, CXR-CLIP, Mammo-CLIP and FLAIR; what differs between them is how its hidden
states become one row, and that stays in each model's own file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.registry import import_extra
from mammi.vlms.checkpoint import tokenizer_content
from mammi.vlms.hub import explain_load
from mammi.weights_file import load_weights

__all__ = ["BertTower", "bert_from", "bert_tokenizer", "last_token"]

#: Width of an attention head in every published BERT; the number of heads is in no tensor.
HEAD_WIDTH = 64
#: In checkpoints of transformers before 4.31; a counter 0, 1, 2, ... that the model makes itself.
_COUNTER = "embeddings.position_ids"


def bert_from(state: dict[str, Tensor], source: str) -> nn.Module:
    """Build a BERT of the size its tensors have, and load them, every one.

    Args:
        state: tensors by the names of transformers' ``BertModel``, for example ``embeddings.word_embeddings.weight``;
            the pooler may be absent.
        source: what to call the weights in messages.

    Returns:
        ``BertModel`` in ``eval()`` mode and float32.

    Raises:
        VlmError: if tensors are missing, superfluous or of another shape.
    """
    transformers = import_extra("transformers", "transformers")
    words = state.get("embeddings.word_embeddings.weight")
    positions = state.get("embeddings.position_embeddings.weight")
    inner = state.get("encoder.layer.0.intermediate.dense.weight")
    if words is None or positions is None or inner is None:
        raise VlmError(
            f"{source} holds no BERT text tower where one was expected: is it the checkpoint of another model?"
        )
    n_layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))
    config = transformers.BertConfig(
        vocab_size=words.shape[0],
        hidden_size=words.shape[1],
        num_hidden_layers=n_layers,
        num_attention_heads=max(1, words.shape[1] // HEAD_WIDTH),
        intermediate_size=inner.shape[0],
        max_position_embeddings=positions.shape[0],
    )
    model: nn.Module = transformers.BertModel(config, add_pooling_layer="pooler.dense.weight" in state)
    load_weights(model, {name: value for name, value in state.items() if name != _COUNTER}, source, error=VlmError)
    return model.float().eval()


def bert_tokenizer(folder: Path, spec: str, *, lower: bool = True) -> Any:  # noqa: ANN401 - a BertTokenizer
    """Load a WordPiece tokenizer from a folder with ``vocab.txt`` or ``tokenizer.json``.

    Args:
        folder: where the files are.
        spec: what the user asked for, for messages.
        lower: whether texts are put in lower case first. Bio_ClinicalBERT's vocabulary is cased, but its repository
            says nothing of it, and so every model that was trained with it was given lower case.

    Raises:
        VlmError: if the files are damaged.
    """
    transformers = import_extra("transformers", "transformers")
    try:
        tokenizer = transformers.BertTokenizer.from_pretrained(folder, local_files_only=True, do_lower_case=lower)
    except Exception as error:
        raise explain_load(spec, folder, error) from error
    tokenizer.padding_side = "right"
    return tokenizer


class BertTower(nn.Module):
    """A BERT, its tokenizer, and how its hidden states become one row a text.

    Args:
        model: as `bert_from` gives it.
        tokenizer: as `bert_tokenizer` gives it.
        max_length: most tokens that are read, start and end among them.
        pool: from hidden states (``n_layers + 1`` tensors ``(n, n_tokens, width)``, the embeddings first) and the mask
            ``(n, n_tokens)``, 1 for tokens and 0 for padding, to ``(n, width)``.
        project: from ``(n, width)`` to ``(n, d_embed)``.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,  # noqa: ANN401 - a BertTokenizer
        max_length: int,
        pool: Callable[[tuple[Tensor, ...], Tensor], Tensor],
        project: nn.Module,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pool = pool
        self.project = project

    def forward(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts as ``(n, d_embed)``, padded to the longest of them."""
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(next(self.model.parameters()).device)
        output = self.model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], output_hidden_states=True
        )
        rows: Tensor = self.project(self.pool(output.hidden_states, tokens["attention_mask"]))
        return rows

    def text_length(self, text: str) -> int:
        """Return how many tokens a text has, its start and end among them."""
        return len(self.tokenizer(text, verbose=False)["input_ids"])

    @property
    def content(self) -> str:
        """What decides how a text is read, for a fingerprint."""
        return f"{self.max_length} {tokenizer_content(self.tokenizer)}"


def last_token(hidden: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """Pool the last layer at each text's last token that is no padding, the separator: ``(n, width)``."""
    ends = mask.sum(dim=1) - 1
    return hidden[-1][torch.arange(len(ends), device=ends.device), ends]
