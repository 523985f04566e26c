"""What CXR-CLIP's and Mammo-CLIP's files have in common: a training checkpoint, and Bio_ClinicalBERT's last token."""

import math
import sys
from contextlib import contextmanager
from types import ModuleType

import torch
import torch.nn.functional as F

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "small", "left", "pleural", "effusion", "no", "mass", "in"),
    *("the", "right", "lower", "lobe", "on", "this", "frontal", "chest", "radio", "##graph", "focal", "consolid"),
    *("##ation", "Mass"),
)


class Draw:
    """Random tensors by shape, of a size that lets every input count and none drown the others."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.state = {}

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def linear(self, name, out, into, *kernel, bias=True, scale=1.0):
        fan = into * math.prod(kernel)
        self.state[f"{name}.weight"] = self.normal(out, into, *kernel) * scale / fan**0.5
        if bias:
            self.state[f"{name}.bias"] = 0.2 * self.normal(out)

    def norm(self, name, width):
        self.state[f"{name}.weight"] = 1 + 0.2 * self.normal(width)
        self.state[f"{name}.bias"] = 0.2 * self.normal(width)

    def batch_norm(self, name, width):
        self.norm(name, width)
        self.state[f"{name}.running_mean"] = 0.2 * self.normal(width)
        self.state[f"{name}.running_var"] = 0.5 + torch.rand(width, generator=self.generator)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def draw_bert(draw, prefix, size, position_ids):
    """Names of transformers' ``BertModel``; ``position_ids`` is in files of versions before 4.31."""
    width, inner, depth, words, places = (
        (768, 3072, 12, 28996, 512) if size == "full" else (128, 96, 2, len(WORDS), 300)
    )
    for name, rows in (("word", words), ("position", places), ("token_type", 2)):
        draw.state[f"{prefix}embeddings.{name}_embeddings.weight"] = draw.normal(rows, width)
    if position_ids:
        draw.state[f"{prefix}embeddings.position_ids"] = torch.arange(places)[None]
    draw.norm(f"{prefix}embeddings.LayerNorm", width)
    for index in range(depth):
        layer = f"{prefix}encoder.layer.{index}"
        for name in ("query", "key", "value"):
            draw.linear(f"{layer}.attention.self.{name}", width, width, scale=1.5)
        draw.linear(f"{layer}.attention.output.dense", width, width)
        draw.norm(f"{layer}.attention.output.LayerNorm", width)
        draw.linear(f"{layer}.intermediate.dense", inner, width)
        draw.linear(f"{layer}.output.dense", width, inner)
        draw.norm(f"{layer}.output.LayerNorm", width)
    draw.linear(f"{prefix}pooler.dense", width, width)
    return width


@contextmanager
def omegaconf():
    """Lend a module of that name, with as much of its lists as a file of theirs holds; yield how to make one."""
    modules = {name: ModuleType(name) for name in ("omegaconf", "omegaconf.listconfig", "omegaconf.nodes")}
    kinds = {}
    for name, kind in (("omegaconf.listconfig", "ListConfig"), ("omegaconf.nodes", "AnyNode")):
        kinds[kind] = type(kind, (), {"__module__": name, "__qualname__": kind})
        setattr(modules[name], kind, kinds[kind])
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)

    def as_list(*values):
        made = kinds["ListConfig"]()
        made._content = []
        made._parent = made
        for value in values:
            node = kinds["AnyNode"]()
            node._val, node._parent = value, made
            made._content.append(node)
        return made

    try:
        yield as_list
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def write(folder, name, state, config, whole=True):
    """Write a checkpoint as the training scripts do, with its settings, the optimizer's state and the loss."""
    words = [*WORDS, *(f"[unused{i}]" for i in range(len(state_words(state)) - len(WORDS)))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    with omegaconf() as as_list:
        config = config | {"transform": {"train": {"RandomResizedCrop": {"scale": as_list(0.8, 1.1)}}}}
        rest = {"optimizer": {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 5e-5}]}}
        rest |= {"scheduler": {"_step_count": 5}, "epoch": 7, "train_loss": torch.tensor(0.25)}
        torch.save({"model": state, "config": config} | (rest if whole else {}), folder / name)
    return folder / name


def state_words(state):
    return state["text_encoder.text_encoder.embeddings.word_embeddings.weight"]


def read(folder):
    (path,) = folder.glob("*.tar")
    with omegaconf():
        return torch.load(path, weights_only=False)["model"]


def tokens_of(text):
    """Split as WordPiece: lower case, blanks, then the longest known pieces from the left."""
    found = []
    for word in text.lower().split():
        pieces, start = [], 0
        while start < len(word):
            ends = [e for e in range(len(word), start, -1) if ("##" * (start > 0) + word[start:e]) in WORDS]
            if not ends:
                pieces = ["[UNK]"]
                break
            pieces.append("##" * (start > 0) + word[start : ends[0]])
            start = ends[0]
        found += pieces
    found = ["[CLS]", *found[:254], "[SEP]"]
    return [WORDS.index(piece) for piece in found]


def texts_of(folder, texts):
    """Each text alone through BERT, formula by formula; its last token, projected."""
    state = read(folder)
    head = {name: value for name, value in state.items() if name.startswith("text_projection.")}
    bert = {name.removeprefix("text_encoder.text_encoder."): value for name, value in state.items()}
    rows = [last_of_bert(bert, tokens_of(text)) for text in texts]
    return F.linear(
        torch.stack(rows), head["text_projection.projection.weight"], head["text_projection.projection.bias"]
    )


def last_of_bert(state, ids):
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    x = state["embeddings.word_embeddings.weight"][ids] + state["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + state["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for index in range(len({name.split(".")[2] for name in state if name.startswith("encoder.layer.")})):
        layer = f"encoder.layer.{index}"
        parts = [linear(x, f"{layer}.attention.self.{name}") for name in ("query", "key", "value")]
        q, k, v = (part.unflatten(1, (-1, 64)).transpose(0, 1) for part in parts)
        mixed = ((q @ k.mT / 8).softmax(-1) @ v).transpose(0, 1).flatten(1)
        x = norm(x + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        wide = F.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x[-1]


def batch_norm(x, state, name, eps=1e-5):
    shape = (1, -1, 1, 1)
    mean, var, weight, bias = (
        state[f"{name}.{part}"].reshape(shape) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + eps).sqrt() * weight + bias
