"""Labelled images from their standard files: Fashion-MNIST and MNIST (idx), CIFAR, ImageNet-32, and small digits.

Nothing is fetched. Fashion-MNIST is a Debian package; the others are read from where the user put their standard
files, and where there are none an error says which were looked for. Nothing takes another set's place.
"""

import gzip
import io
import math
import os
import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.core import require, seeds

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's `dataset-fashion-mnist` puts its files."""
FASHION_NAMES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)
FASHION_VARIABLE = "UNROLLED_FASHION_MNIST"
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

Path_ = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Images:
    """Images and their labels, in bytes.

    Attributes:
        pixels: `[n, channels, height, width]`, uint8.
        labels: `[n]`, int64, from 0.
        names: of the classes; numbers where the files give none.
        source: the folder or file they came from.
    """

    pixels: Tensor
    labels: Tensor
    names: tuple[str, ...]
    source: str = ""

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.dim() != 4 or len(self.pixels) != len(self.labels):
            raise ValueError(
                f"{self.source or 'images'}: {self.pixels.dtype} of shape {tuple(self.pixels.shape)} and {len(self.labels)} labels; "
                "images are uint8 [n, channels, height, width], with a label each"
            )
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.names):
            raise ValueError(
                f"{self.source or 'images'}: labels from {int(self.labels.min())} to {int(self.labels.max())} for {len(self.names)} classes"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: Any) -> "Images":
        """Some of them: a slice or a tensor of numbers."""
        return Images(self.pixels[which], self.labels[which], self.names, self.source)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: channels, height, width."""
        _, c, h, w = self.pixels.shape
        return c, h, w

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, of pixels from 0 to 1."""
        c = self.pixels.shape[1]
        counts = torch.zeros(c, 256, dtype=torch.float64)
        for part in self.pixels.split(10_000):
            rows = part.transpose(0, 1).reshape(c, -1).int()
            counts += torch.stack([torch.bincount(row, minlength=256) for row in rows]).cpu()
        level = torch.arange(256).double() / 255
        share = counts / counts.sum(1, keepdim=True)
        mean = share @ level
        return mean.float(), ((share @ level.square()) - mean.square()).sqrt().float()

    def scaled(self, moments: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """As float32: each channel less its mean, over its deviation; from 0 to 1 without `moments`."""
        x = self.pixels.float() / 255
        if moments is None:
            return x
        mean, deviation = (m.view(-1, 1, 1).to(x.device) for m in moments)
        return (x - mean) / deviation

    def to(self, device: Any) -> "Images":
        """On a device."""
        return Images(self.pixels.to(device), self.labels.to(device), self.names, self.source)


class Shuffled:
    """Batches of images as a pure function of the step: the same order for whoever asks, killed or not.

    Each epoch is a permutation drawn from the seed and the epoch's number; the last batch of an epoch is full because the
    rest of its permutation is left out.

    Args:
        images: all of them.
        batch: how many at a time.
        seed: of the order.
        moments: what to scale by; those of `images` when None.
        flip: mirror each image or not, by chance.
        shift: move each by up to so many pixels either way.

    Raises:
        ValueError: a batch larger than the set, or below 1.

    Example:
        >>> four = Images(torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1), torch.arange(4), tuple("abcd"))
        >>> batches = Shuffled(four, 2, seed=0)
        >>> sorted(torch.cat([batches(0)[1], batches(1)[1]]).tolist()), len(batches)
        ([0, 1, 2, 3], 2)
        >>> torch.equal(batches(5)[0], Shuffled(four, 2, seed=0)(5)[0])
        True
    """

    def __init__(
        self,
        images: Images,
        batch: int,
        seed: int,
        *,
        moments: tuple[Tensor, Tensor] | None = None,
        flip: bool = False,
        shift: int = 0,
    ) -> None:
        if not 1 <= batch <= len(images):
            raise ValueError(f"batch={batch} of {len(images)} images: at least 1, at most all")
        self.images, self.batch, self.seed = images, batch, seed
        self.moments = images.moments() if moments is None else moments
        self.flip, self.shift = flip, shift
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.images) // self.batch

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images, float32, and labels of a step, counted from the first epoch's first."""
        epoch, at = divmod(step, len(self))
        if epoch != self._epoch:
            rng = torch.Generator().manual_seed(1_000_003 * self.seed + epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self.images), generator=rng)
        chosen = self.images[
            self._order[at * self.batch : (at + 1) * self.batch].to(self.images.labels.device)
        ]
        x = chosen.scaled(self.moments)
        if self.flip or self.shift:
            x = self._moved(x, step)
        return x, chosen.labels

    def _moved(self, x: Tensor, step: int) -> Tensor:
        rng = seeds.generator(7_368_787 * self.seed + step)
        n, _, h, w = x.shape
        if self.flip:
            mirrored = (torch.rand(n, generator=rng) < 0.5).view(-1, 1, 1, 1).to(x.device)
            x = torch.where(mirrored, x.flip(3), x)
        if self.shift:
            s = self.shift
            wide = torch.nn.functional.pad(x, (s, s, s, s))
            down, right = torch.randint(2 * s + 1, (2, n), generator=rng).to(x.device)
            rows = down[:, None] + torch.arange(h, device=x.device)
            columns = right[:, None] + torch.arange(w, device=x.device)
            every = torch.arange(n, device=x.device)[:, None, None]
            x = wide.transpose(0, 1)[:, every, rows[:, :, None], columns[:, None, :]].transpose(0, 1)
        return x


# -- idx: Fashion-MNIST, MNIST


def idx(path: Path_) -> Tensor:
    r"""An idx file, gzipped or not: uint8 of the shape its header gives.

    Raises:
        FileNotFoundError: there is none.
        ValueError: not an idx file of bytes, or cut short.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(b"\0\0\x08\x02" + struct.pack(">II", 1, 3) + bytes([7, 8, 9])); file.flush()
        ...     idx(file.name).tolist()
        [[7, 8, 9]]
    """
    file = Path(path)
    raw = file.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise ValueError(f"{file}: a damaged gzip file ({error})") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(f"{file}: no idx file of bytes; it begins with {raw[:4].hex(' ')}, not 00 00 08")
    head = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:head]) if len(raw) >= head else ()
    wanted = math.prod(shape)
    if not shape or len(raw) - head != wanted:
        raise ValueError(
            f"{file}: {len(raw) - head:,} bytes for an array of shape {shape}: cut short, or too long"
        )
    return torch.frombuffer(bytearray(raw[head:]), dtype=torch.uint8).view(shape) if wanted else torch.zeros(shape, dtype=torch.uint8)  # fmt: skip


def idx_pair(
    folder: Path_, names: Sequence[str] | None = None, *, what: str = "idx"
) -> tuple[Images, Images]:
    """Training and test set from the four idx files of MNIST's kind, by their usual names, gzipped or not.

    Raises:
        FileNotFoundError: a file is missing; the error names it.
        ValueError: damaged files, or no label for each image.
    """
    made: list[Images] = []
    for part in ("train", "t10k"):
        pixels, labels = (
            _there(folder, f"{part}-{kind}-ubyte", what) for kind in ("images-idx3", "labels-idx1")
        )
        values = idx(labels).long()
        known = (
            tuple(names)
            if names
            else tuple(str(i) for i in range(int(values.max()) + 1 if len(values) else 0))
        )
        made.append(Images(idx(pixels)[:, None], values, known, str(folder)))
    return made[0], made[1]


def fashion_mnist(path: Path_ | None = None) -> tuple[Images, Images]:
    """Fashion-MNIST: 60,000 and 10,000 images of 28 x 28 in 10 classes.

    Args:
        path: folder of its four idx files. Without it, where Debian's `dataset-fashion-mnist` puts them, or else the folder
            in the environment's `UNROLLED_FASHION_MNIST`.

    Raises:
        FileNotFoundError: there are none; the error says where they were looked for and how to get them.
        ValueError: damaged files.
    """
    places = [Path(path)] if path else [FASHION, *map(Path, filter(None, [os.environ.get(FASHION_VARIABLE)]))]
    for place in places:
        if place.is_dir():
            return idx_pair(place, FASHION_NAMES, what="Fashion-MNIST")
    raise FileNotFoundError(
        f"no Fashion-MNIST at {' or '.join(map(str, places))}: install Debian's dataset-fashion-mnist, or pass the folder "
        f"with train-images-idx3-ubyte.gz and its three companions (or set {FASHION_VARIABLE})"
    )


def mnist(path: Path_) -> tuple[Images, Images]:
    """MNIST from the folder of its four idx files.

    Raises:
        FileNotFoundError, ValueError: as `idx_pair`.
    """
    return idx_pair(path, what="MNIST")


# -- CIFAR, ImageNet-32


def cifar10(path: Path_) -> tuple[Images, Images]:
    """CIFAR-10 from its unpacked folder, of the binary (`data_batch_1.bin`) or the Python version (`data_batch_1`).

    Raises:
        FileNotFoundError: a file is missing; the error names it.
        ValueError: a damaged file.
    """
    parts = [f"data_batch_{i}" for i in range(1, 6)]
    if (Path(path) / "data_batch_1.bin").exists():
        train = [_records(_there(path, f"{p}.bin", "CIFAR-10"), 1) for p in parts]
        test = [_records(_there(path, "test_batch.bin", "CIFAR-10"), 1)]
    else:
        train = [_pickled(_there(path, p, "CIFAR-10"), "labels") for p in parts]
        test = [_pickled(_there(path, "test_batch", "CIFAR-10"), "labels")]
    return _joined(train, CIFAR10_NAMES, path), _joined(test, CIFAR10_NAMES, path)


def cifar100(path: Path_) -> tuple[Images, Images]:
    """CIFAR-100, fine labels, from its unpacked folder, binary (`train.bin`) or Python version (`train`).

    Raises:
        FileNotFoundError, ValueError: as `cifar10`.
    """
    names = tuple(map(str, range(100)))
    if (Path(path) / "train.bin").exists():
        both = [_records(_there(path, f"{part}.bin", "CIFAR-100"), 2) for part in ("train", "test")]
    else:
        both = [_pickled(_there(path, part, "CIFAR-100"), "fine_labels") for part in ("train", "test")]
    return _joined(both[:1], names, path), _joined(both[1:], names, path)


def imagenet32(path: Path_) -> tuple[Images, Images]:
    """ImageNet at 32 x 32 (Chrabaszcz et al. 2017): `train_data_batch_1` to 10 and `val_data`, pickled or `.npz`.

    Raises:
        FileNotFoundError, ValueError: as `cifar10`.
    """
    end = ".npz" if (Path(path) / "val_data.npz").exists() else ""
    names = tuple(map(str, range(1000)))
    files = [f"train_data_batch_{i}{end}" for i in range(1, 11)]
    read = [_pickled(_there(path, name, "ImageNet-32"), "labels") for name in (*files, f"val_data{end}")]
    read = [(pixels, labels - 1) for pixels, labels in read]  # counted from 1 in the files
    return _joined(read[:-1], names, path), _joined(read[-1:], names, path)


def digits(seed: int = 0, held_out: int = 360) -> tuple[Images, Images]:
    """scikit-learn's 1,797 digits of 8 x 8 (levels 0 to 16, scaled to 0 to 255), split by a seed.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    require("sklearn", extra="dev")
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    pixels = torch.from_numpy((data.images * (255 / 16)).round().astype(np.uint8))[:, None]
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
    whole = Images(pixels, torch.from_numpy(data.target).long(), tuple("0123456789"), "scikit-learn digits")
    return whole[order[held_out:]], whole[order[:held_out]]


def _there(folder: Path_, name: str, what: str) -> Path:
    place = Path(folder)
    for file in (place / name, place / f"{name}.gz"):
        if file.is_file():
            return file
    state = "is there, this file is not" if place.is_dir() else "does not exist"
    raise FileNotFoundError(
        f"{what}: no {name} in {place}: the folder {state}; pass the folder of its standard files"
    )


def _records(file: Path, labels: int) -> tuple[Tensor, Tensor]:
    raw = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    size = labels + 3072
    if not len(raw) or len(raw) % size:
        raise ValueError(f"{file}: {len(raw):,} bytes are no whole number of records of {size}: cut short?")
    table = torch.from_numpy(raw.reshape(-1, size).copy())
    return table[:, labels:].reshape(-1, 3, 32, 32), table[:, labels - 1].long()


class _Plain(pickle.Unpickler):
    """Reads arrays and plain values; refuses whatever else a pickle may run."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name.replace("_core", "core"), global_name) in {
            ("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "scalar"), ("_codecs", "encode"),
        }:  # fmt: skip
            return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)
        raise ValueError(f"it wants to load {module_name}.{global_name}, which no file of images needs")


def _pickled(file: Path, key: str) -> tuple[Tensor, Tensor]:
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as found:
                kept: dict[Any, Any] = dict(found)
        else:
            kept = _Plain(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        kept = {k.decode() if isinstance(k, bytes) else k: v for k, v in kept.items()}
        pixels, labels = np.asarray(kept["data"], dtype=np.uint8), np.asarray(kept[key], dtype=np.int64)
        return torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy()), torch.from_numpy(labels.copy())
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, AttributeError, OSError) as error:
        raise ValueError(
            f"{file}: no standard file of images of 32 x 32: {type(error).__name__} {error}"
        ) from error


def _joined(parts: list[tuple[Tensor, Tensor]], names: tuple[str, ...], source: Path_) -> Images:
    return Images(torch.cat([p for p, _ in parts]), torch.cat([n for _, n in parts]), names, str(source))
