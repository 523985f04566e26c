"""Tokenizer files in the formats that checkpoints come with; the words of `vlm_row.TEXTS` are whole pieces in them."""

import json
import string

from tests.published.vlm_row import TEXTS

PIECES = sorted({word for text in TEXTS for word in text.split()} | {"no"})


def write_clip(folder):
    """OpenAI's byte pairs as transformers stores them: ``vocab.json`` and ``merges.txt``, 49,408 tokens."""
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): i for token, i in tokenizer.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in tokenizer.bpe_ranks if isinstance(pair, tuple))]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>", **ends}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_t5(folder, size, tokenizer_class="SiglipTokenizer"):
    """SigLIP's T5 pieces as ``tokenizer.json``; ``</s>`` (1) ends and pads."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(letter, -9.0) for letter in string.printable[:95] if letter != " "]
    pieces += [(f"▁{word}", -2.0) for word in PIECES]
    pieces += [(f"<extra_{i}>", -99.0) for i in range(size - len(pieces))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": tokenizer_class, "model_max_length": 64, "do_lower_case": True}
    ends = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | ends))


def write_gemma(folder, size):
    """SigLIP 2's Gemma pieces as ``tokenizer.json``, padded to 64 with ``<pad>`` (0) there; capitals are kept."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *string.printable[:94]]
    merges = []
    for word in PIECES:
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                tokens.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    tokens += [f"<extra_{i}>" for i in range(size - len(tokens))]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.add_special_tokens(special)
    tokenizer.enable_padding(length=64, pad_id=0, pad_token="<pad>")
    tokenizer.enable_truncation(64)
    tokenizer.save(str(folder / "tokenizer.json"))
    ends = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    settings = {"tokenizer_class": "GemmaTokenizer", "model_max_length": 64, "padding_side": "right"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | ends | {"add_bos_token": False}))


def padded_ids(folder, text, length, pad):
    """Token ids by the tokenizers library alone, cut and padded here."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = tokenizer.encode(text).ids
    ids = ids if len(ids) <= length else [*ids[: length - 1], 1]
    return ids + [pad] * (length - len(ids))
