"""Every kind of target, in the order in which they are listed: importing this file fills the registry."""

from mammi.targets.built import targets
from mammi.targets.from_monai import from_monai
from mammi.targets.from_timm import from_timm
from mammi.targets.from_torchvision import from_torchvision
from mammi.targets.from_transformers import from_transformers
from mammi.targets.from_user import from_file, from_phantoms
from mammi.targets.from_xrv import from_xrv

__all__ = ["targets"]

targets.register(
    "phantom",
    "the small network of the demo, trained on drawn chest films; nothing to download; "
    "'phantom:shortcut' has learned a planted shortcut",
)(from_phantoms)
targets.register("file.py", "your own network: 'path/file.py:NAME', a class or function that returns an nn.Module")(
    from_file
)
targets.register(
    "torchvision",
    "a network of torchvision by name: 'torchvision:densenet121'",
    needs=("torchvision",),
    extra="torchvision",
)(from_torchvision)
targets.register(
    "timm", "a network of timm by name: 'timm:vit_base_patch16_224'", needs=("timm", "torchvision"), extra="timm"
)(from_timm)
targets.register(
    "xrv",
    "a chest film network of torchxrayvision by the name of its weights: 'xrv:densenet121-res224-all'",
    needs=("torchxrayvision", "torchvision"),
    extra="xrv",
)(from_xrv)
targets.register(
    "monai", "a classification network of MONAI in two dimensions: 'monai:densenet121'", needs=("monai",), extra="monai"
)(from_monai)
targets.register(
    "transformers",
    "an image classifier in the Hugging Face format: 'transformers:FOLDER' or 'transformers:organisation/name'",
    needs=("transformers", "torchvision"),
    extra="transformers",
)(from_transformers)
