"""A net's outputs for images that it is not trained on."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fspkd.engine.batches import Images

PIXELS = {"cuda": 2**19, "cpu": 2**18}  # per batch: 512 and 256 CIFAR images; a CUDA graph keeps their memory


@torch.no_grad()
def predict(net: nn.Module, images: Images, these_NHWC: Tensor) -> Tensor:
    """Logits (N, K) of a net in evaluation mode for some of the images; restores the net's mode."""
    training = net.training
    net.eval()
    height, width = images.size
    batches = these_NHWC.split(max(1, PIXELS[images.device.type] // (height * width)))
    logits = torch.cat([net(images.to_input(batch)) for batch in batches])
    net.train(training)
    return logits


def accuracy_and_loss(logits_NK: Tensor, labels_N: Tensor) -> tuple[float, float]:
    """Accuracy in percent, and the mean cross-entropy."""
    correct = (logits_NK.argmax(1) == labels_N).sum().item()
    return 100 * correct / len(labels_N), F.cross_entropy(logits_NK, labels_N).item()
