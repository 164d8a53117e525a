"""Build the wheel, install it without its dependencies into a clean venv, and import it there.

The dependencies come from the venv that runs this script (a .pth file names its site-packages), so that nothing of
the source tree is on the path and nothing is downloaded twice.
"""

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROBE = """
import pathlib, unrolled as un
here = pathlib.Path(un.__file__)
assert "clean" in here.parts, f"imported {here}, not the wheel"
assert (here.parent / "py.typed").is_file(), "py.typed is not in the wheel"
for name in un.__all__:
    getattr(un, name)
print("wheel", un.__version__, "imports:", ", ".join(un.__all__))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "dist"
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(ROOT)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (wheel,) = built.glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        strays = [name for name in names if not name.startswith(("unrolled/", "unrolled-"))]
        assert not strays, f"the wheel holds files outside the package: {strays}"
        source = ROOT / "src"
        there = {
            path.relative_to(source).as_posix() for path in (source / "unrolled").rglob("*") if path.is_file()
        }
        lost = {name for name in there if not name.endswith(".pyc")} - set(names)
        assert not lost, f"the wheel lacks files of the package: {sorted(lost)}"

        clean = Path(folder) / "clean"
        venv.create(clean, with_pip=False)
        site = Path(sysconfig.get_path("purelib", vars={"base": str(clean), "platbase": str(clean)}))
        pip = [sys.executable, "-m", "pip", "--python", str(clean / "bin" / "python"), "--quiet", "install"]
        subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
        # A plain path line: .pth files of that folder (the editable install among them) are not followed.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run([str(clean / "bin" / "python"), "-c", PROBE], check=True, cwd=folder)
        subprocess.run(
            [str(clean / "bin" / "unrolled"), "--help"], check=True, cwd=folder, stdout=subprocess.DEVNULL
        )


if __name__ == "__main__":
    main()
