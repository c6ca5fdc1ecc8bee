"""What a preset may say about data sets and pretrained weights."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from fspkd.settings import Identifier, NotEmptyTuple, PositiveInt, PositiveReal, Settings, matching, rising

Sha256 = Annotated[str, *matching(r"[0-9a-f]{64}", "64 hexadecimal digits")]
WEIGHTS_FILES = (".pt", ".pth", ".bin")  # what the names of files of weights end in
Sha256Start = Annotated[str, *matching(r"[0-9a-f]{8,64}", "8 to 64 hexadecimal digits")]


class Augment(Settings):
    """Random crops and flips of training images."""

    pad: Annotated[int, Field(ge=0)] = 0
    """zero pixels added on each side before a crop"""
    crop: PositiveInt | None = None
    """the size of the crops; without it, that of the images. With it, images for tests and validation are cropped in
    the middle"""
    flip: bool = False
    """mirror every other image, at random"""


class GcnZca(Settings):
    """Global contrast normalisation, then ZCA whitening, once: float32 images are packed, and used as they are.

    The whitening is fitted on the images that are trained on and on those for validation, never on test images, nor on what
    is held out.
    """

    method: Literal["gcn_zca"]
    """how pixels are normalised"""
    scale: PositiveReal = 55.0
    """the L2 norm of an image, of all its pixels and channels, after its mean is subtracted"""
    bias: PositiveReal = 0.1
    """what is added to the eigenvalues of the covariance"""


class GcnLcn(Settings):
    """Global contrast normalisation to an L2 norm of 1, then LeCun's local one, of each channel in windows of 7x7.

    Both are computed of every batch: uint8 images are packed, and crops and flips come first.
    """

    method: Literal["gcn_lcn"]
    """how pixels are normalised"""


Preprocess = Annotated[GcnZca | GcnLcn, Field(discriminator="method")]


class DataSettings(Settings):
    """A data set."""

    name: Identifier
    """what it is called in paths, and in FSPKD_DATA_<NAME>, which says where its images lie on this machine"""
    sha256: Sha256 | None = None
    """pins the content: any source of the same images is the same data set"""
    size: PositiveInt | None = None
    """resize every image to size x size pixels"""
    hold_out: PositiveInt | None = None
    """so many of the training images, drawn at random, take the place of the test images and are not trained on: for
    choosing settings without a look at test images"""
    validation: PositiveInt | None = None
    """so many of the training images, drawn at random with the same part of every class, are set aside for validation and
    not trained on; a `stop` by validation is decided by them"""
    preprocess: Preprocess | None = None
    """how pixels are normalised; without it they are divided by 255"""
    augment: Augment = Augment()
    """how training images are changed, anew each time that they are used"""


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
        if extra and info.data.get("dataset") not in ("SVHN", None):  # None: a wrong name, which is told already
            raise ValueError(f"only SVHN has extra images, and dataset is {info.data['dataset']!r}; remove it")
        return extra


class ImageFolder(DataSettings):
    """A folder {train,test}/<class>/*, or a tar or zip of one."""

    source: Literal["imagefolder"]
    """where the images come from"""
    path: str
    """where it lies"""


class Cub200(DataSettings):
    """CUB-200-2011, downloaded and checked, or in its own layout on disk.

    The shorter side of every image is resized to `size`, and a square of that size is kept from the middle.
    """

    source: Literal["cub200"]
    """where the images come from"""
    size: PositiveInt
    """the height and width of every image, in pixels"""


Data = Annotated[Digits | Torchvision | ImageFolder | Cub200, Field(discriminator="source")]


class Pretrained(Settings):
    """Weights that were trained elsewhere: what nets start from, as `start` of a row, or learn from, as `teacher` of a stage.

    The linear layer of what starts from them is its own; a teacher has that of the file.
    """

    weights: str
    """torchvision's name for them, by which they are downloaded, such as ResNet34_Weights.IMAGENET1K_V1; or a file that ends
    in .pt, .pth or .bin and holds a state dict. FSPKD_WEIGHTS_<NAME> names a file in its place, on one machine"""
    network: Identifier
    """the entry of `networks` that they fit"""
    sha256: Sha256Start
    """the beginning of the file's checksum, as sha256sum prints it"""

    @property
    def is_file(self) -> bool:
        """Whether `weights` is a path, and no name of torchvision's."""
        return self.weights.endswith(WEIGHTS_FILES)
