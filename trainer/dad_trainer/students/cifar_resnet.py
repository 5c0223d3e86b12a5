"""ResNets for 32-pixel images, registered with timm.

`cifar_resnet20`, `cifar_resnet56`: section 4.2 of He, Zhang, Ren, Sun (2016, arXiv 1512.03385), with its shortcuts of
option A (subsampled identity, zeros for the new channels; no parameters). `cifar_resnet18`: the usual wide network, the
ImageNet ResNet-18 (option B shortcuts, 1x1 convolutions) with a 3x3 stem and no pooling before the first stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

NormName = Literal["batch", "group"]
ShortcutName = Literal["A", "B"]

NUM_GROUPS = 8  # of a group norm, whatever the width; 16 channels is the least here

default_cfgs = generate_default_cfgs(
    {
        name: {
            "num_classes": 10,
            "input_size": (3, 32, 32),
            "pool_size": (8, 8) if name != "cifar_resnet18" else (4, 4),
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "mean": (0.4914, 0.4822, 0.4465),
            "std": (0.2470, 0.2435, 0.2616),
            "first_conv": "conv1",
            "classifier": "fc",
        }
        for name in ("cifar_resnet18", "cifar_resnet20", "cifar_resnet56")
    }
)


def _norm(name: NormName, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if name == "batch" else nn.GroupNorm(NUM_GROUPS, channels)


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


class PaddedShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and zeros in the channels that are new."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = new_channels
        self.stride = stride

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


class BasicBlock(nn.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: ShortcutName, norm: NormName) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride)
        self.norm1 = _norm(norm, channels)
        self.conv2 = _conv3x3(channels, channels)
        self.norm2 = _norm(norm, channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = (
                PaddedShortcut(channels - in_channels, stride)
                if shortcut == "A"
                else nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), _norm(norm, channels))
            )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(self.shortcut(x) + residual)


class CifarResNet(nn.Module):
    """Stem, stages of `blocks` basic blocks at `widths` channels (each new one at half the side), mean, classifier.

    The surface that timm's models share: `num_classes` 0 gives the pooled features.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int],
        widths: Sequence[int],
        shortcut: ShortcutName,
        num_classes: int = 10,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        norm: NormName = "batch",
    ) -> None:
        super().__init__()
        if norm not in ("batch", "group"):
            raise ValueError(f"norm = {norm!r}: expected batch or group")
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.num_features = self.head_hidden_size = widths[-1]
        self.conv1 = _conv3x3(in_chans, widths[0])
        self.norm1 = _norm(norm, widths[0])
        stages: list[nn.Module] = []
        channels = widths[0]
        for number, (depth, width) in enumerate(zip(blocks, widths, strict=True)):
            strides = [2 if number else 1] + [1] * (depth - 1)
            inputs = [channels] + [width] * (depth - 1)
            stages.append(
                nn.Sequential(*(BasicBlock(i, width, s, shortcut, norm) for i, s in zip(inputs, strides, strict=True)))
            )
            channels = width
        self.stages = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """A new classifier; none where `num_classes` is 0."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        return self.stages(F.relu(self.norm1(self.conv1(x))))

    def forward_head(self, x: Float[Tensor, "b d h w"], pre_logits: bool = False) -> Float[Tensor, "b e"]:
        x = F.dropout(x.mean(dim=(2, 3)), self.drop_rate, self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e"]:
        return self.forward_head(self.forward_features(x))


def _build(variant: str, pretrained: bool, **options: object) -> CifarResNet:
    return build_model_with_cfg(CifarResNet, variant, pretrained, **options)


def cifar_resnet18(pretrained: bool = False, **options: object) -> CifarResNet:
    """11.2 M parameters, 0.56 G multiply-adds at 32 pixels."""
    wide: dict[str, object] = {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "shortcut": "B"}
    return _build("cifar_resnet18", pretrained, **wide, **options)


def cifar_resnet20(pretrained: bool = False, **options: object) -> CifarResNet:
    """0.27 M parameters, 0.04 G multiply-adds at 32 pixels."""
    narrow: dict[str, object] = {"blocks": (3, 3, 3), "widths": (16, 32, 64), "shortcut": "A"}
    return _build("cifar_resnet20", pretrained, **narrow, **options)


def cifar_resnet56(pretrained: bool = False, **options: object) -> CifarResNet:
    """0.85 M parameters, 0.13 G multiply-adds at 32 pixels."""
    narrow: dict[str, object] = {"blocks": (9, 9, 9), "widths": (16, 32, 64), "shortcut": "A"}
    return _build("cifar_resnet56", pretrained, **narrow, **options)


for _entry in (cifar_resnet18, cifar_resnet20, cifar_resnet56):
    register_model(_entry)  # not as a decorator: it has no types, and theirs would go
