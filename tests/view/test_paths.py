import os
import socket

import pytest

from unrolled.view import paths
from unrolled.view.paths import Refused


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "secret").write_text("no")
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "file.json").write_text("yes")
    return root


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".lock", "a/b", "/etc", "a\\b", "a\0", "~/x", "x" * 300, "a\n", "%2e%2e", "C:x", "-x"],
)
def test_a_name_that_could_lead_elsewhere_is_none(tree, name):
    with pytest.raises(Refused):
        paths.name(name)
    with pytest.raises(Refused):
        paths.read(tree, name, "file.json")
    with pytest.raises(Refused):
        paths.read(tree, "a", name)


@pytest.mark.parametrize("name", ["V1.Act", "20261124-003741-89234dc3", "größe", "a b (1)", "x_y=3,z@2+1"])
def test_names_of_runs_and_files_are_names(name):
    assert paths.name(name) == name


def test_files_are_read_and_listed(tree):
    assert paths.read(tree, "a", "file.json") == b"yes"
    assert list(paths.files(tree, "a")) == ["file.json"]
    assert paths.files(tree, "a", suffix=".txt") == paths.files(tree, "nothing") == {}


def test_no_link_is_followed_neither_to_a_file_nor_through_a_folder(tree):
    (tree / "a" / "file").symlink_to(tree.parent / "secret")
    (tree / "b").symlink_to(tree / "a")
    (tree / "loop").symlink_to("loop")
    for parts in (("a", "file"), ("b", "file.json"), ("loop",), ("loop", "x")):
        with pytest.raises(Refused, match="is a link"):
            paths.read(tree, *parts)
    with pytest.raises(Refused):
        paths.files(tree, "b")
    assert list(paths.files(tree, "a")) == ["file.json"]
    assert paths.is_linked(tree, "b", "file.json")
    assert not paths.is_linked(tree, "a", "file.json")


def test_the_root_itself_may_be_a_link(tree):
    link = tree.parent / "link"
    link.symlink_to(tree)
    assert paths.read(link, "a", "file.json") == b"yes"


def test_pipes_sockets_and_folders_are_no_files_and_do_not_block(tree):
    os.mkfifo(tree / "a" / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tree / "a" / "s"))
    for name in ("pipe", "s"):
        with pytest.raises((Refused, OSError)):
            paths.read(tree, "a", name)
    with pytest.raises(Refused):
        paths.read(tree, "a")
    with pytest.raises(FileNotFoundError):
        paths.read(tree, "a", "file.json", "deeper")
    assert list(paths.files(tree, "a")) == ["file.json"]


def test_a_file_too_large_to_be_read_whole(tree):
    with pytest.raises(ValueError, match="reads such files up to 2"):
        paths.read(tree, "a", "file.json", limit=2)
