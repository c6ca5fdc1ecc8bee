"""What a preset may say about data sets and pretrained weights."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from fspkd.settings import Identifier, NotEmptyTuple, PositiveInt, PositiveReal, Settings, matching, rising

Sha256 = Annotated[str, *matching(r"[0-9a-f]{64}", "64 hexadecimal digits")]
WEIGHTS_FILES = (".pt", ".pth", ".bin")  # suffixes of files of weights
Sha256Start = Annotated[str, *matching(r"[0-9a-f]{8,64}", "8 to 64 hexadecimal digits")]


class Augment(Settings):
    """Random crops and flips of training images."""

    pad: Annotated[int, Field(ge=0)] = 0
    """zero pixels added on each side before a crop"""
    crop: PositiveInt | None = None
    """the size of the crops; by default that of the images. If given, test and validation images are cropped at the
    centre"""
    flip: bool = False
    """mirror each image with probability 1/2"""


class GcnZca(Settings):
    """Global contrast normalisation, then ZCA whitening, done once: the packed images are float32 and used as they are.

    The whitening is fitted on training and validation images, never on test images or held-out ones.
    """

    method: Literal["gcn_zca"]
    """how pixels are normalised"""
    scale: PositiveReal = 55.0
    """the L2 norm of an image, over all its pixels and channels, after its mean is subtracted"""
    bias: PositiveReal = 0.1
    """what is added to the eigenvalues of the covariance"""


class GcnLcn(Settings):
    """Global contrast normalisation to an L2 norm of 1, then LeCun's local one, of each channel in 7x7 windows.

    Both are computed for each batch: the packed images are uint8, and crops and flips come first.
    """

    method: Literal["gcn_lcn"]
    """how pixels are normalised"""


Preprocess = Annotated[GcnZca | GcnLcn, Field(discriminator="method")]


class DataSettings(Settings):
    """A data set."""

    name: Identifier
    """its name in paths, and in FSPKD_DATA_<NAME>, which says where its images are on this machine"""
    sha256: Sha256 | None = None
    """pins the content: any source of the same images is the same data set"""
    size: PositiveInt | None = None
    """resize every image to size x size pixels"""
    hold_out: PositiveInt | None = None
    """this many training images, drawn at random, replace the test images and are not trained on: for choosing settings
    without looking at test images"""
    validation: PositiveInt | None = None
    """this many training images, drawn at random with the same fraction of every class, are set aside for validation and
    not trained on; a `stop` by validation uses them"""
    preprocess: Preprocess | None = None
    """how pixels are normalised; without it they are divided by 255"""
    augment: Augment = Augment()
    """how training images are changed, anew each time they are used"""


class Digits(DataSettings):
    """scikit-learn's bundled handwritten digits, 8x8 grey images; needs no network."""

    source: Literal["digits"]
    """where the images come from"""
    classes: Annotated[tuple[Annotated[int, Field(ge=0, le=9)], ...], *NotEmptyTuple, AfterValidator(rising)] = tuple(
        range(10)
    )
    """the digits that are used"""


class Torchvision(DataSettings):
    """A data set that torchvision downloads and checks."""

    source: Literal["torchvision"]
    """where the images come from"""
    dataset: Literal["CIFAR10", "CIFAR100", "SVHN", "MNIST"]
    """torchvision's name for it"""
    extra: Literal[True] | None = None
    """train on SVHN's split `extra` too"""

    @field_validator("extra")
    @classmethod
    def _of_svhn(cls, extra: bool | None, info: ValidationInfo) -> bool | None:
        if extra and info.data.get("dataset") not in ("SVHN", None):  # None: a wrong name, which is reported already
            raise ValueError(f"only SVHN has extra images, but dataset is {info.data['dataset']!r}; remove this key")
        return extra


class ImageFolder(DataSettings):
    """A folder {train,test}/<class>/*, or a tar or zip of one."""

    source: Literal["imagefolder"]
    """where the images come from"""
    path: str
    """where it is"""


class Cub200(DataSettings):
    """CUB-200-2011, downloaded and checked, or in its own layout on disk.

    The shorter side of every image is resized to `size`, and a square of that size is cropped at the centre.
    """

    source: Literal["cub200"]
    """where the images come from"""
    size: PositiveInt
    """the height and width of every image, in pixels"""


Data = Annotated[Digits | Torchvision | ImageFolder | Cub200, Field(discriminator="source")]


class Pretrained(Settings):
    """Weights that were trained elsewhere, for nets to start from (`start` of a row) or learn from (`teacher` of a stage).

    Nets that start from them have a linear layer of their own; a teacher has the file's.
    """

    weights: str
    """torchvision's name for them, by which they are downloaded, such as ResNet34_Weights.IMAGENET1K_V1; or a .pt, .pth or
    .bin file with a state dict. FSPKD_WEIGHTS_<NAME> names a file to use instead on one machine"""
    network: Identifier
    """the entry of `networks` that they fit"""
    sha256: Sha256Start
    """the beginning of the file's checksum, as sha256sum prints it"""

    @property
    def is_file(self) -> bool:
        """Whether `weights` is a path rather than a name of torchvision's."""
        return self.weights.endswith(WEIGHTS_FILES)
