"""Images for the studies of one rate-coded network: Fashion-MNIST where it is, or small digits when asked for by name."""

from unrolled.training import images
from unrolled.training.images import Images

WHY = "Fashion-MNIST (Debian's dataset-fashion-mnist, or a folder of its files) is not on this machine, and nothing takes its place"


def load(data: str) -> tuple[Images, Images] | None:
    """Training and test images: of a folder, of Debian's when empty, of scikit-learn for `"digits"`; None where there are none."""
    if data == "digits":
        return images.digits()
    try:
        return images.fashion_mnist(data or None)
    except FileNotFoundError:
        return None


def some(whole: Images, n: int) -> Images:
    """The first n; all when 0."""
    return whole[:n] if n else whole
