"""Small films with two findings, a small network and a sentence encoder of the tests' own."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

WORDS = ["[PAD]", "[UNK]", "a", "disc", "bar", "no", "finding", "and", "is", "seen", "there", "an", "image", "of"]
WORDS += ["patient", "with", "clear", "field", "large", "small", "the"]
NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    preprocessing = dict(channels=1, size=(32, 32), mean=[0.4], std=[0.3])

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 12, 5, 2, 2), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(12, 20, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(20, 2)

    def forward(self, x):
        return self.head(self.second(self.first(x)).mean((2, 3)))
"""
N_FILMS = 120


def draw(place, disc, bar):
    random = np.random.default_rng(place)
    film = random.normal(60, 12, (40, 40))
    y, x = np.mgrid[:40, :40]
    row, column = random.integers(10, 30, 2)
    if disc:
        film[(y - row) ** 2 + (x - column) ** 2 < 36] += 90
    if bar:
        film[:, column - 1 : column + 2] += 60
    return Image.fromarray(film.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """A folder with images, labels.csv and reports in two forms; three films in four know whether there is a bar."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "images").mkdir()
    rows, told = [], []
    for place in range(N_FILMS):
        disc, bar = place % 2, (place // 2) % 2
        draw(place, disc, bar).save(folder / "images" / f"f{place}.png")
        rows.append(
            {"image": f"f{place}", "patient": f"p{place // 3}", "disc": disc, "bar": "" if place % 4 == 3 else bar}
        )
        said = ("a disc is seen. " if disc else "no disc. ") + ("there is a bar." if bar else "no bar is seen.")
        told.append(
            {"image": f"f{place}.png", "patient": f"p{place // 3}", "report": f"HISTORY: none. FINDINGS: {said}"}
        )
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    told.append({"image": "f0b.png", "patient": "p0", "report": ""})
    draw(0, 0, 0).save(folder / "images" / "f0b.png")
    pd.DataFrame(told).to_csv(folder / "reports.csv", index=False)
    (folder / "reports.jsonl").write_text("\n".join(json.dumps(row) for row in told))
    return folder


@pytest.fixture(scope="session")
def sentences_folder(tmp_path_factory):
    """A sentence encoder of two layers in its library's own format."""
    library = pytest.importorskip("sentence_transformers")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("sentences")
    (folder / "vocab.txt").write_text("\n".join([*WORDS, "[CLS]", "[SEP]", "[MASK]"]))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    config = transformers.BertConfig(
        vocab_size=len(WORDS) + 3,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertModel(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0, 0.3)
    model.save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    modules = library.models if hasattr(library, "models") else library.sentence_transformer.modules
    word = modules.Transformer(str(folder / "bert"))
    pooling = modules.Pooling(32)
    library.SentenceTransformer(modules=[word, pooling], device="cpu").save(str(folder / "encoder"))
    return folder / "encoder"


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """Code and weights of the backbone."""
    folder = tmp_path_factory.mktemp("network")
    (folder / "net.py").write_text(NETWORK)
    names: dict[str, object] = {}
    exec(NETWORK, names)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        torch.save(names["Net"]().state_dict(), folder / "net.pt")
    return folder


@pytest.fixture
def target(network):
    import mammi

    return mammi.create_target(f"{network / 'net.py'}:Net", network / "net.pt")
