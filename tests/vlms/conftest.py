"""Tiny untrained checkpoints, written by each library in its own format, so that real loading code is run."""

import json

import pytest
import torch

WORDS = ["<pad>", "<unk>", "</s>", "a", "chest", "film", "of", "mass", "frontal", "radiograph", "with", "small", "left"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def stir(model, seed=0):
    """Give every weight a size that makes every input count."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return model.eval()


def word_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    vocabulary = {c: i for i, c in enumerate([*LETTERS, *(f"{c}</w>" for c in LETTERS)])}
    vocabulary |= {"<|startoftext|>": 52, "<|endoftext|>": 53}
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=tower
        | {"vocab_size": 54, "max_position_embeddings": 24, "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53},
        vision_config=tower | {"image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    stir(transformers.CLIPModel(config)).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("siglip")
    word_tokenizer().save_pretrained(folder)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        text_config=tower | {"vocab_size": len(WORDS), "max_position_embeddings": 10, "projection_size": 16},
        vision_config=tower | {"image_size": 32, "patch_size": 8},
    )
    stir(transformers.SiglipModel(config)).save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def open_clip_config(**text):
    return {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2} | text,
    }


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory):
    open_clip = pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("open_clip")
    config = open_clip_config()
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    torch.save(stir(open_clip.CLIP(**config)).state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


@pytest.fixture(scope="session")
def tower_folder(tmp_path_factory):
    """An open_clip model with a Hugging Face text tower, as BiomedCLIP is."""
    open_clip = pytest.importorskip("open_clip")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tower")
    bert = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    bert.save_pretrained(folder / "tiny-bert")
    word_tokenizer().save_pretrained(folder)
    text = {"hf_model_name": "nobody/tiny-bert", "hf_tokenizer_name": "nobody/tiny-bert", "context_length": 16}
    text |= {"hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"}
    config = open_clip_config() | {"text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    local = config | {"text_cfg": text | {"hf_model_name": str(folder / "tiny-bert"), "hf_model_pretrained": False}}
    model = stir(open_clip.CustomTextCLIP(**local))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


@pytest.fixture
def architectures(tmp_path):
    """Teach open_clip two tiny architectures that differ in their activation only; forget them afterwards."""
    factory = pytest.importorskip("open_clip.factory")
    before = list(factory._MODEL_CONFIG_PATHS)
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "tiny.json").write_text(json.dumps(open_clip_config()))
    (folder / "tiny-quickgelu.json").write_text(json.dumps(open_clip_config() | {"quick_gelu": True}))
    factory.add_model_config(folder)
    yield
    factory._MODEL_CONFIG_PATHS[:] = before
    factory._rescan_model_configs()


@pytest.fixture
def no_network(monkeypatch):
    """Make every question to the hub fail as it does without a network; return the questions asked."""
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def fail(self, name, **kwargs):
        asked.append(name)
        raise OSError("Name or service not known")

    monkeypatch.setattr(hub.HfApi, "model_info", fail)
    return asked
