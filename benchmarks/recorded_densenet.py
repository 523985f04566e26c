"""MAMMI on the recorded outputs of a real DenseNet-121, from arrays alone.

Activations are the logits of 14 recorded output probabilities for 578 NIH films, the concepts every single word seen in
at least 5 of 3,955 real reports plus the 14 true names, the annotator a small chest-film vision-language model.
Prints, for MAMMI as published, the share of outputs whose own finding ranks first and within the first ten, and its
median number of concepts that score higher (0 is the best).

    python benchmarks/recorded_densenet.py [DATA]      # DATA: the folder with nih/, densenet121_nih_outputs/, ...
"""

import csv
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from PIL import Image

import mammi

TEMPLATE = "A chest x-ray image of a {}"
TRUTH = [
    *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax"),
    *("consolidation", "edema", "emphysema", "fibrosis", "pleural thickening", "hernia"),
]


def concept_words(reports: Path) -> list[str]:
    """Return the words longer than 3 letters among the 1,200 commonest that at least 5 reports hold, then the names."""
    counts: Counter[str] = Counter()
    for line in reports.read_text().splitlines():
        report = json.loads(line)
        text = f"{report.get('findings') or ''} {report.get('impression') or ''}".lower()
        counts.update(set(re.findall("[a-z]+", text)))
    words = [word for word, n in counts.most_common(1200) if n >= 5 and len(word) > 3 and word != "xxxx"]
    return words + [name for name in TRUTH if name not in words]


def recorded(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return the activations, the embeddings of films, concepts and template, and the concepts."""
    with (data / "densenet121_nih_outputs" / "probabilities.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    probabilities = np.clip(np.array([row[1:] for row in rows], dtype=np.float64), 1e-6, 1 - 1e-6)
    vlm = mammi.create_vlm(f"{data / 'cxr_mini_vlm' / 'vlm.py'}:create").model
    films = []
    for start in range(0, len(rows), 32):
        batch = [Image.open(data / "nih" / "images" / row[0]) for row in rows[start : start + 32]]
        films.append(vlm.encode_images(torch.stack([vlm.preprocess(film) for film in batch])))
    words = concept_words(data / "reports.jsonl")
    texts = vlm.encode_texts([TEMPLATE.format(word) for word in words])
    bare = vlm.encode_texts([TEMPLATE.replace(" {}", "")])
    logits = np.log(probabilities / (1 - probabilities))
    return logits, torch.cat(films).numpy(), texts.numpy(), bare.numpy(), words


def main() -> None:
    """Print one row of the table."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "shared" / "data"
    logits, films, texts, bare, words = recorded(data)
    found = mammi.annotate_arrays(logits, films, texts, bare[0])
    ranks = np.array([(row > row[words.index(name)]).sum() for row, name in zip(found.scores, TRUTH, strict=True)])
    sizes = [len(chosen) for chosen in found.examples]
    print(f"{len(logits)} films, {logits.shape[1]} outputs, {len(words)} concepts")
    print(f"examples per output: {min(sizes)} to {max(sizes)}, median {np.median(sizes):g}")
    print("method               hit@1  hit@10  median ahead")
    print(f"MAMMI as published   {(ranks == 0).mean():5.2f}  {(ranks < 10).mean():6.2f}  {np.median(ranks):12g}")


if __name__ == "__main__":
    main()
