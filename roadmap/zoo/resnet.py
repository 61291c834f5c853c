"""ResNet (1512.03385, the v1.5 of torchvision: the stride sits on the 3x3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..tracks.convnext import CONVNEXT_B, CONVNEXT_T
from .entry import Variant

if TYPE_CHECKING:
    from ..weights import Dialect


def dialects() -> tuple[Dialect, ...]:
    """The names of torchvision, which timm shares."""
    from ..weights import Dialect, by_rules

    number = {"pointwise1": "1", "spatial": "2", "pointwise2": "3"}
    return (
        Dialect(
            name="torchvision",
            rename=by_rules(
                (r"^stem\.conv\.", "conv1."),
                (r"^stem\.norm\.", "bn1."),
                (r"^stages\.(\d+)\.blocks\.(\d+)\.residual\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}."),
                (r"body\.norm_(\w+)\.", lambda m: f"bn{number[m[1]]}."),
                (r"body\.(\w+)\.", lambda m: f"conv{number[m[1]]}."),
                (r"shortcut\.conv\.", "downsample.0."),
                (r"shortcut\.norm\.", "downsample.1."),
                (r"^head\.classifiers\.0\.linear\.", "fc."),
            ),
        ),
    )


VARIANTS = (
    Variant(
        name="resnet-50",
        system="ResNet",
        spec=lambda input_size=224, classes=1000: CONVNEXT_T.spec({}, input_size=input_size, classes=classes),
        micro="resnet-50-micro",
        top1=76.13,
        source="1512.03385",
        dialects=dialects,
    ),
    Variant(
        name="resnet-200",
        system="ResNet",
        spec=lambda input_size=224, classes=1000: CONVNEXT_B.spec({}, input_size=input_size, classes=classes),
        micro="resnet-50-micro",
        top1=78.20,
        source="1603.05027",
        dialects=dialects,
    ),
    Variant(
        name="resnet-50-micro",
        system="ResNet",
        spec=lambda input_size=32, classes=10: CONVNEXT_T.spec({}, scale="micro", input_size=input_size, classes=classes),
        input_size=32,
        sizes="any size from 16",
        micro="resnet-50-micro",
        dialects=dialects,
    ),
)
