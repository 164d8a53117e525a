"""Images from their standard files: what is read, what is refused by name, and batches as a function of the step."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch

from unrolled.training import images
from unrolled.training.images import Images, Shuffled


def idx_bytes(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """A set of MNIST's kind: 12 and 5 images of 4 x 6, half of the files gzipped."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 12), ("t10k", 5)):
        pixels = rng.integers(0, 256, (n, 4, 6), dtype=np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(pixels)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(n, dtype=np.uint8) % 10))
    return tmp_path


def test_idx_files_are_read_as_they_are(folder):
    train, test = images.fashion_mnist(folder)
    assert (len(train), len(test), train.shape) == (12, 5, (1, 4, 6))
    assert train.labels.tolist() == [*range(10), 0, 1]
    expected = np.random.default_rng(0).integers(0, 256, (12, 4, 6), dtype=np.uint8)
    assert torch.equal(train.pixels[:, 0], torch.from_numpy(expected))
    assert train.names[9] == "boot"
    assert images.mnist(folder)[0].names == tuple("0123456789")


def test_missing_files_are_named(folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="MNIST: no train-images.* the folder does not exist"):
        images.mnist(tmp_path / "nowhere")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="no t10k-labels-idx1-ubyte in .*is there, this file is not"):
        images.fashion_mnist(folder)
    monkeypatch.setattr(images, "FASHION", tmp_path / "debian")
    monkeypatch.delenv(images.FASHION_VARIABLE, raising=False)
    with pytest.raises(FileNotFoundError, match="install Debian's dataset-fashion-mnist, or pass the folder"):
        images.fashion_mnist()
    with pytest.raises(FileNotFoundError, match="CIFAR-10: no data_batch_1 in"):
        images.cifar10(tmp_path)
    with pytest.raises(FileNotFoundError, match="CIFAR-100: no train in"):
        images.cifar100(tmp_path)
    with pytest.raises(FileNotFoundError, match="ImageNet-32: no train_data_batch_1 in"):
        images.imagenet32(tmp_path)


def test_the_place_of_debian_s_package_and_the_environment_s(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(images.FASHION_VARIABLE, str(folder))
    monkeypatch.setattr(images, "FASHION", tmp_path / "debian")
    assert images.fashion_mnist()[0].source == str(folder)
    (tmp_path / "debian").mkdir()
    with pytest.raises(FileNotFoundError, match="debian"):
        images.fashion_mnist()  # the package's folder comes first


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda raw: raw[:-3], "cut short"),
        (lambda raw: raw + b"x", "too long"),
        (lambda raw: b"PNG!" + raw, "no idx file of bytes; it begins with 50 4e 47 21"),
        (lambda raw: raw[:6], "cut short"),
        (lambda raw: gzip.compress(raw)[:-9], "damaged gzip"),
        (lambda raw: b"", "no idx file"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, spoil, says):
    file = tmp_path / "images"
    file.write_bytes(spoil(idx_bytes(np.zeros((3, 2, 2), dtype=np.uint8))))
    with pytest.raises(ValueError, match=says):
        images.idx(file)


def test_a_label_for_each_image(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(11, dtype=np.uint8)))
    with pytest.raises(ValueError, match="12, 1, 4, 6.* and 11 labels"):
        images.mnist(folder)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(12, 10, dtype=np.uint8)))
    with pytest.raises(ValueError, match="labels from 10 to 10 for 10 classes"):
        images.fashion_mnist(folder)


def cifar(n, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3072), dtype=np.uint8), rng.integers(0, 10, n)


def test_cifar_10_in_both_versions_is_the_same(tmp_path):
    for name, seed in [*((f"data_batch_{i}", i) for i in range(1, 6)), ("test_batch", 9)]:
        pixels, labels = cifar(4, seed)
        table = np.concatenate([labels[:, None].astype(np.uint8), pixels], 1)
        (tmp_path / "binary").mkdir(exist_ok=True)
        (tmp_path / "python").mkdir(exist_ok=True)
        (tmp_path / "binary" / f"{name}.bin").write_bytes(table.tobytes())
        (tmp_path / "python" / name).write_bytes(
            pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol=2)
        )
    a, b = images.cifar10(tmp_path / "binary"), images.cifar10(tmp_path / "python")
    for mine, theirs in zip(a, b):
        assert torch.equal(mine.pixels, theirs.pixels)
        assert torch.equal(mine.labels, theirs.labels)
    assert len(a[0]) == 20
    assert a[1].shape == (3, 32, 32)
    assert a[0].pixels[0, 0, 0, 1] == cifar(4, 1)[0][0, 1]
    (tmp_path / "binary" / "test_batch.bin").write_bytes(b"\0" * 3072)
    with pytest.raises(ValueError, match="no whole number of records of 3073"):
        images.cifar10(tmp_path / "binary")


def test_cifar_100_and_imagenet_32(tmp_path):
    for part in ("train", "test"):
        pixels, labels = cifar(3, 5)
        (tmp_path / part).write_bytes(
            pickle.dumps({b"data": pixels, b"fine_labels": (labels * 11).tolist(), b"coarse_labels": [0] * 3})
        )
    assert images.cifar100(tmp_path)[0].labels.tolist() == (cifar(3, 5)[1] * 11).tolist()
    for name in [*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data"]:
        pixels, labels = cifar(2, 6)
        np.savez(tmp_path / f"{name}.npz", data=pixels, labels=labels + 1)
    train, test = images.imagenet32(tmp_path)
    assert (len(train), len(test)) == (20, 2)
    assert test.labels.tolist() == cifar(2, 6)[1].tolist()


class Nasty:
    def __reduce__(self):
        return (print, ("a pickle ran code",))


def test_a_pickle_that_runs_code_is_refused(tmp_path, capsys):
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}").write_bytes(pickle.dumps({b"data": Nasty(), b"labels": [0]}))
    with pytest.raises(ValueError, match="no file of images needs"):
        images.cifar10(tmp_path)
    assert capsys.readouterr().out == ""


def made(n=10, seed=0):
    pixels = torch.randint(
        0, 256, (n, 2, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return Images(pixels, torch.arange(n) % 3, ("a", "b", "c"))


def test_batches_are_a_function_of_the_step_and_cover_an_epoch():
    one, other = (
        Shuffled(made(), 3, seed=1, flip=True, shift=2),
        Shuffled(made(), 3, seed=1, flip=True, shift=2),
    )
    steps = [7, 0, 4, 7, 2]
    for step in steps:
        for a, b in zip(one(step), other(step)):
            assert torch.equal(a, b)
    plain = Shuffled(made(), 5, seed=1)
    seen = torch.cat([plain(0)[0], plain(1)[0]]).flatten(1)
    assert len(torch.unique(seen, dim=0)) == 10
    assert not torch.equal(plain(0)[1], plain(2)[1]) or not torch.equal(plain(0)[0], plain(2)[0])
    assert not torch.equal(plain(0)[0], Shuffled(made(), 5, seed=2)(0)[0])
    for bad in (0, 11):
        with pytest.raises(ValueError, match=f"batch={bad} of 10 images"):
            Shuffled(made(), bad, seed=0)


def test_scaling_gives_each_channel_mean_0_and_deviation_1():
    x = made(50).scaled(made(50).moments()).double()
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(2).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(2).double(), atol=1e-5, rtol=0)


def test_a_shift_moves_and_a_flip_mirrors():
    whole = made(64)
    plain, moved = Shuffled(whole, 64, seed=3), Shuffled(whole, 64, seed=3, flip=True, shift=1)
    for x, y in zip(plain(0)[0], moved(0)[0]):
        wide = [torch.nn.functional.pad(z, (1, 1, 1, 1)) for z in (x, x.flip(2))]
        options = [w[:, i : i + 5, j : j + 5] for w in wide for i in range(3) for j in range(3)]
        assert any(torch.equal(y, option) for option in options)


def test_digits_are_split_by_a_seed():
    pytest.importorskip("sklearn", reason="scikit-learn, whose digits these are, is not installed")
    train, test = images.digits(seed=1)
    assert (len(train), len(test), train.shape) == (1437, 360, (1, 8, 8))
    assert int(train.pixels.max()) == 255
    assert not torch.equal(train.labels, images.digits(seed=2)[0].labels)


def test_fashion_mnist_itself():
    try:
        train, test = images.fashion_mnist()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    assert (len(train), len(test), train.shape) == (60_000, 10_000, (1, 28, 28))
    assert torch.bincount(train.labels).tolist() == [6000] * 10
    mean, deviation = train.moments()
    assert float(mean) == pytest.approx(0.2860, abs=1e-4)
    assert float(deviation) == pytest.approx(0.3530, abs=1e-4)
