"""ResNet image towers as checkpoints of the field hold them: torchvision's, of the size that the tensors have."""

from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.registry import import_extra
from mammi.weights_file import load_weights

__all__ = ["resnet_from"]


def resnet_from(state: dict[str, Tensor], source: str) -> nn.Module:
    """Build a bottleneck ResNet (50, 101, 152) from its tensors, and load them, every one.

    Args:
        state: tensors by torchvision's names, for example ``layer1.0.conv1.weight``; with ``fc.weight`` the model ends
            in that linear layer, without in the pooled features.
        source: what to call the weights in messages.

    Returns:
        A ``torchvision.models.ResNet`` in ``eval()`` mode and float32, from ``(n, 3, height, width)`` to
        ``(n, n_outputs)``.

    Raises:
        VlmError: if tensors are missing, superfluous or of another shape.
        MissingExtraError: if torchvision is not installed.
    """
    models = import_extra("torchvision.models", "torchvision")
    blocks = import_extra("torchvision.models.resnet", "torchvision")
    first = state.get("layer1.0.conv1.weight")
    depths = [
        len({name.split(".")[1] for name in state if name.startswith(f"layer{stage}.")}) for stage in (1, 2, 3, 4)
    ]
    if first is None or "layer1.0.conv3.weight" not in state or 0 in depths:
        raise VlmError(
            f"{source} holds no ResNet image tower where one was expected: is it another model's checkpoint?"
        )
    model: nn.Module = models.ResNet(blocks.Bottleneck, depths, width_per_group=first.shape[0])
    last = state.get("fc.weight")
    if last is None:
        model.fc = nn.Identity()
    else:
        model.fc = nn.Linear(last.shape[1], last.shape[0], bias="fc.bias" in state)
    load_weights(model, state, source, error=VlmError)
    return model.float().eval()
