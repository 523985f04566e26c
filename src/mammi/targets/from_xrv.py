"""Chest film networks of torchxrayvision (Cohen et al., MIDL 2022, arXiv 2111.00595), by the names of their weights.

The library wraps each network: it resizes, checks pixels with printed warnings, and turns logits into what it calls
predictions. Here the networks stand without that. Their view of a film is this package's own, in the library's pixel
range; their outputs are logits. A prediction of the library is ``op_norm(sigmoid(logit), threshold)``, which rises with
the logit (so the same films excite an output) except for outputs without a threshold, where it is always 0.5.
"""

import contextlib
import io
import json
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from mammi.errors import TargetError, UnknownNameError
from mammi.registry import import_extra
from mammi.targets.built import Built, clean_names
from mammi.targets.library_weights import download, need_weights
from mammi.targets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from mammi.targets.shell import Shell
from mammi.weights_file import load_weights, read_weights

__all__ = ["from_xrv"]

_NIH, _PADCHEST, _CHEXPERT, _MIMIC = "NIH ChestX-ray14", "PadChest", "CheXpert", "MIMIC-CXR"
_RSNA, _SIIM = "RSNA Pneumonia Challenge", "SIIM-ACR Pneumothorax"  # films of ChestX-ray14, labelled anew
#: What the classifiers of the library itself were trained on, by the ending of their names.
_CORPORA = {
    "densenet121-res224-all": (_NIH, _PADCHEST, _CHEXPERT, _MIMIC, "Open-i", _RSNA),
    "densenet121-res224-nih": (_NIH,),
    "densenet121-res224-rsna": (_RSNA, _NIH),
    "densenet121-res224-pc": (_PADCHEST,),
    "densenet121-res224-chex": (_CHEXPERT,),
    "densenet121-res224-mimic_nb": (_MIMIC,),
    "densenet121-res224-mimic_ch": (_MIMIC,),
    "resnet50-res512-all": (_PADCHEST, _NIH, _RSNA, _SIIM, "VinDr-CXR"),
}


@dataclass(frozen=True)
class _Other:
    """A network that torchxrayvision publishes for others.

    Attributes:
        make: builds it without weights, from the library's module.
        size: of its input, pixels.
        mean: per channel, for pixels in [0, 1].
        std: per channel.
        outputs: names of its outputs.
        corpora: what it was trained on, as far as known.
        file: the published weights file.
    """

    make: Callable[[Any], nn.Module]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    outputs: tuple[str, ...]
    corpora: tuple[str, ...]
    file: str


class _Joined(Shell):
    """JF Healthcare's network with its five heads side by side."""

    def forward(self, films: Tensor) -> Tensor:
        """Return the logits, ``(n_images, 5)``."""
        logits, _maps = self.run(films)
        return torch.cat(logits, 1)


class _FirstTwo(Shell):
    """The view network: a ResNet-50 of 1,000 outputs, of which the first two were trained."""

    def forward(self, films: Tensor) -> Tensor:
        """Return the logits of frontal and lateral, ``(n_images, 2)``."""
        outputs: Tensor = self.run(films)[:, :2]
        return outputs


class _Rebuilt(Shell):
    """The autoencoder, which returns the film that it makes of its code."""

    def forward(self, films: Tensor) -> Tensor:
        """Return the film, ``(n_images, 1, 224, 224)``."""
        film: Tensor = self.run(films)["out"]
        return film


def _jfhealthcare(xrv: Any) -> nn.Module:  # noqa: ANN401
    home = xrv.baseline_models.jfhealthcare
    settings = json.loads((Path(home.__file__).parent / "config" / "example.json").read_text(encoding="utf-8"))
    settings["pretrained"] = False  # else ImageNet's weights are downloaded, only to be overwritten
    return _Joined(home.classifier.Classifier(SimpleNamespace(**settings)))


def _view(_xrv: Any) -> nn.Module:  # noqa: ANN401
    return _FirstTwo(import_extra("torchvision.models", "xrv").resnet50(weights=None))


def _sex(_xrv: Any) -> nn.Module:  # noqa: ANN401
    model: nn.Module = import_extra("torchvision.models", "xrv").resnet34(weights=None, num_classes=2)
    return model


def _race(_xrv: Any) -> nn.Module:  # noqa: ANN401
    model: nn.Module = import_extra("torchvision.models", "xrv").resnet34(weights=None)
    model.fc = nn.Sequential(nn.Linear(512, 3), nn.LogSoftmax(dim=1))
    return model


def _anatomy(xrv: Any) -> nn.Module:  # noqa: ANN401
    home = xrv.baseline_models.chestx_det
    model: nn.Module = home.pspnet(len(home.PSPNet.targets))
    return model


def _autoencoder(xrv: Any) -> nn.Module:  # noqa: ANN401
    model: nn.Module = xrv.autoencoders.ResNetAE101()
    model.__dict__["weights"] = None  # its repr asks for it
    return _Rebuilt(model)


_FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Effusion")
_MEAN, _STD = IMAGENET_MEAN, IMAGENET_STD
_RANGE = ((0.5,), (1 / 2048,))  # pixels in [0, 1] to [-1024, 1024]
_OTHERS = {
    "jfhealthcare-densenet121": _Other(
        *(_jfhealthcare, 512, (0.5,) * 3, (0.25,) * 3, _FIVE, (_CHEXPERT,)),
        "baseline_models_jfhealthcare-DenseNet121_pre_train.pth",
    ),
    "xinario-view": _Other(
        *(_view, 320, _MEAN, _STD, ("frontal", "lateral"), ()), "xinario_chestViewSplit_resnet-50.pt"
    ),
    "mira-sex": _Other(
        *(_sex, 224, (0.0,) * 3, (1 / 255,) * 3, ("male", "female"), (_CHEXPERT,)),
        "mira_sex_resnet-all_epoch_13-step_7125.ckpt",
    ),
    "emory-race": _Other(
        *(_race, 320, _MEAN, _STD, ("asian", "black", "white"), (_MIMIC,)),
        "resnet_race_detection_val-loss_0.157_mimic_public.pt",
    ),
    "chestx-det-pspnet": _Other(
        *(_anatomy, 512, _MEAN, _STD, (), ("ChestX-Det", _NIH)), "pspnet_chestxray_best_model_4.pth"
    ),
    "resnetae-101-elastic": _Other(
        *(_autoencoder, 224, *_RANGE, (), (_NIH, _PADCHEST, _RSNA, _MIMIC, _CHEXPERT)),
        "nihpcrsnamimic_ch-resnet101-2-ae-test2-elastic-e250.pt",
    ),
}


def from_xrv(name: str, weights: str | None) -> Built:
    """Build ``xrv:NAME``, with the published weights from a file or, ``"pretrained"``, from the library's own store.

    Films are cropped to a square about their centre, as the library's ``XRayCenterCrop`` does, and resized with
    smoothing; grey pixels in [0, 1] come to [-1024, 1024], or to what the networks of others make of that range.
    """
    known = [*_CORPORA, *_OTHERS]
    if name not in known:
        raise UnknownNameError.among("torchxrayvision network", name, known, f"Known: {', '.join(known)}.")
    spec = f"xrv:{name}"
    need_weights(spec, weights)
    xrv = _import_xrv()
    notes: tuple[str, ...] = ()
    other = _OTHERS.get(name)
    if other is not None:
        model, names, corpora = other.make(xrv), other.outputs, other.corpora
        size, mean, std = other.size, other.mean, other.std
    else:
        published = xrv.models.model_urls[name]
        names, notes = _outputs(published, xrv.datasets.default_pathologies, spec)
        model = _classifier(xrv, name, len(names))
        size, corpora = int(published["input_resolution"]), _CORPORA[name]
        mean, std = _RANGE
    preprocessing = Preprocessing(channels=len(mean), size=(size, size), mean=mean, std=std, resize="crop")
    if weights == "random":
        notes = (f"RANDOM WEIGHTS: {spec} has learned nothing, and neither will its annotations mean anything", *notes)
        corpora = ()
    else:
        file = _stored(xrv, name, spec) if weights == "pretrained" else Path(str(weights)).expanduser()
        state = _read(file, name, spec)
        notes = (*load_weights(model, state, repr(str(file))), *notes)
    return Built(model, preprocessing, clean_names(names), notes, corpora)


def _classifier(xrv: Any, name: str, n_outputs: int) -> nn.Module:  # noqa: ANN401
    """Build a classifier of the library itself: without thresholds and input size, so that it gives logits silently."""
    if name.startswith("densenet"):
        model: nn.Module = xrv.models.DenseNet(num_classes=n_outputs)
        return model
    model = import_extra("torchvision.models", "xrv").resnet50(weights=None, num_classes=n_outputs)
    model.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return model


def _outputs(published: dict[str, Any], findings: list[str], spec: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the outputs; those that no data set of the training had labels for are called untrained."""
    names, untrained = [], []
    thresholds = published["op_threshs"]
    for label, finding, threshold in zip(published["labels"], findings, thresholds, strict=True):
        trained = bool(label) and not math.isnan(threshold)
        names.append(label if trained else f"{label or finding} (untrained)")
        untrained += [] if trained else [label or finding]
    note = f"{spec}: {len(untrained)} of {len(names)} outputs were never trained: {', '.join(untrained)}"
    return tuple(names), (note,) if untrained else ()


def _read(file: Path, name: str, spec: str) -> dict[str, Tensor]:
    """Read published weights; of a state dict of the library's class, without the thresholds that it keeps there."""
    try:
        state = read_weights(file)
    except TargetError as error:
        if "holds more than tensors" not in str(error) or not name.startswith("densenet"):
            raise
        raise TargetError(
            f"{str(file)!r} is the network itself, pickled, as torchxrayvision publishes {name}; opening it could run code, "
            "so it was not opened. If you trust it, write its weights once and give that file to "
            f'{spec}: python -c "import torch, torchxrayvision as xrv; '
            f"torch.save(xrv.models.DenseNet(weights='{name}').state_dict(), 'weights.pt')\""
        ) from error
    state.pop("op_threshs", None)
    return state


def _stored(xrv: Any, name: str, spec: str) -> Path:  # noqa: ANN401
    """Return the published file in the library's own folder, downloaded if it is not there."""
    with contextlib.redirect_stdout(io.StringIO()):  # the library prints a progress bar there
        if name in _CORPORA:
            return Path(download(spec, lambda: xrv.models.get_weights(name)))
        folder = Path(xrv.utils.get_cache_dir())
        file = folder / _OTHERS[name].file
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            # They lie where the library's own networks do.
            release = str(next(iter(xrv.models.model_urls.values()))["weights_url"]).rpartition("/")[0]
            download(spec, lambda: xrv.utils.download(f"{release}/{file.name}", str(file)))
    return file


def _import_xrv() -> Any:  # noqa: ANN401 - the module torchxrayvision
    """Import torchxrayvision, and undo what that does to everybody else.

    It silences all warnings of the process, puts two of its folders first on ``sys.path``, and wants a top-level module
    ``model`` of its own there, which a user's ``model.py`` would be taken for, and which would be taken for that.
    """
    own = _forget_models()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_extra("torchxrayvision", "xrv")
    finally:
        sys.path[:] = [path for path in sys.path if "torchxrayvision" not in path]
        _forget_models()
        sys.modules.update(own)


def _forget_models() -> dict[str, ModuleType]:
    """Take every module ``model`` and what is in it out of the imported ones; return those that are not the library's."""
    found = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "model"}
    return {n: m for n, m in found.items() if "torchxrayvision" not in str(getattr(m, "__file__", ""))}
