"""CIFAR residual nets of 6n+2 layers [He et al. 2016, section 4.2], as the FSP paper uses them."""

from torch import Tensor, nn
from torch.nn import functional as F

from fspkd.models.batch_norm import BatchNorm, BatchNormReLU
from fspkd.models.resnet import ResNet


class ResidualModule(nn.Module):
    """conv-BN-ReLU-conv-BN, plus the shortcut, then ReLU: (B, Cin, H, W) to (B, Cout, H/stride, W/stride).

    The shortcut has no parameters: it subsamples, and fills the new channels with zeros.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = BatchNormReLU(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = BatchNormReLU(channels_out)
        self.stride = stride
        self.new_channels = channels_out - channels_in

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.bn1(self.conv1(x)))
        if self.stride > 1:
            x = F.avg_pool2d(x, 1, self.stride)  # every stride-th pixel; the gradient keeps the layout
        if self.new_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return self.bn2(y, x)


class CifarResNet(ResNet):
    """A stem with a batch norm on the input, and three sections."""

    residual_module = ResidualModule

    @staticmethod
    def new_stem(channels_in: int, width: int) -> nn.Sequential:
        return nn.Sequential(
            BatchNorm(channels_in),
            nn.Conv2d(channels_in, width, 3, 1, 1, bias=False),
            BatchNormReLU(width),
        )


NET = CifarResNet
