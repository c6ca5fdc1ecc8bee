"""The settings of networks that a preset may name. Imports no torch."""

from typing import Annotated

from pydantic import Field

from fspkd.networks.maxout import MaxoutNetwork
from fspkd.networks.residual import CifarNetwork, ImageNetNetwork
from fspkd.networks.torchvision import TorchvisionNetwork

AnyNetwork = Annotated[
    CifarNetwork | ImageNetNetwork | MaxoutNetwork | TorchvisionNetwork, Field(discriminator="architecture")
]
