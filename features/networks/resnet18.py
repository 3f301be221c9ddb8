"""ResNet-18 (He et al. 2016), what VAANet's sound and its head share."""

from torch import Tensor, nn

POOLED_DIM = 512


class ResNet18(nn.Module):
    """Torchvision's ResNet-18 for one channel and without its classifier; keys are torchvision's.

    Its first convolution sees frames and not coefficients, as in VAANet's code.
    """

    def __init__(self) -> None:
        import torchvision  # slow to import, and most stages never need it

        super().__init__()
        whole = torchvision.models.resnet18(weights=None)
        whole.conv1 = nn.Conv2d(1, 64, (7, 1), stride=(2, 1), padding=(3, 0), bias=False)
        for name, layer in whole.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, layer)

    def forward(self, segments_TCHW: Tensor) -> dict[str, Tensor]:
        """Return ``mfcc`` (T, H, 32) and ``pooled`` (T, 512) of segments (T, 1, H, 32)."""
        map_TCHW = segments_TCHW
        for layer in self.children():  # in the order in which they are computed
            map_TCHW = layer(map_TCHW)
        return {"mfcc": segments_TCHW.squeeze(1), "pooled": map_TCHW.mean(dim=(2, 3))}
