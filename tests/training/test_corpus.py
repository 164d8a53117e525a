"""Corpora: what is read, what is refused by name, held-out parts, and batches as a function of the step."""

import bz2
import gzip
import lzma
import os
import sys

import pytest
import torch

from unrolled.training.corpus import END, Corpus, corpus
from unrolled.training.tokenizer import ByteTokenizer


def text_of(part: Corpus) -> str:
    return ByteTokenizer().decode(part.tokens)


def test_the_standard_library_is_the_default():
    text = corpus()
    again = corpus()
    assert text.sha256 == again.sha256
    assert 3e6 < len(text) < 3e7
    assert len(set(text.names)) == len(text.names) > 200
    assert not any(
        part in f"/{name}" for name in text.names for part in ("/test/", "/tests/", "/idlelib/", "site-")
    )
    facts = text.describe()
    assert facts["documents"] == int((text.tokens == END).sum()) == len(text.ends)
    assert facts["sha256"] == text.sha256
    assert os.sep not in facts["source"]
    # Names are shuffled by hash: a held-out tail is not just the letter z.
    assert list(text.names) != sorted(text.names)


def test_documents_end_where_it_says(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.md").write_text("drei é")
    (tmp_path / "sub" / "copy.md").write_text("drei é")  # the same bytes: taken once
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "empty.py").write_text("")
    text = corpus(tmp_path)
    starts = (0, *text.ends)
    parts = {n: bytes(text.tokens[a:b].tolist()) for n, a, b in zip(text.names, starts, text.ends)}
    assert len(parts) == 2
    assert parts["a.txt"] == b"one\ntwo\0"
    assert {"drei é".encode() + b"\0"} == {v for k, v in parts.items() if k != "a.txt"}
    assert text.notes == ()


def test_the_same_files_elsewhere_give_the_same_corpus(tmp_path):
    for place, newline in (("here", "\n"), ("there", "\r\n")):
        (tmp_path / place).mkdir()
        for i in range(20):
            (tmp_path / place / f"{i}.txt").write_bytes(f"text {i}{newline}end".encode())
    assert corpus(tmp_path / "here").sha256 == corpus(tmp_path / "there").sha256


def test_packed_files(tmp_path):
    for suffix, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        file = tmp_path / f"words.txt{suffix}"
        file.write_bytes(pack(b"some words"))
        assert text_of(corpus(file)) == "some words\0"
    assert len(corpus(tmp_path).ends) == 1  # found by inner suffix, equal contents taken once


def test_a_named_file_is_read_whatever_its_name(tmp_path):
    odd = tmp_path / "notes.xyz"
    odd.write_bytes(b"\xef\xbb\xbfbom first")
    assert text_of(corpus(odd, end=None)) == "bom first"


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("empty.txt", b"", r"empty.txt is empty"),
        ("blank.txt", b" \n\t", r"blank.txt is empty"),
        ("binary.txt", b"abc\0def", r"binary.txt is binary"),
        ("picture.txt", b"\x89PNG\r\n\0\0\0\rIHDR", r"picture.txt is binary"),
        ("latin.txt", "é".encode("latin-1") + b" rest of it", r"latin.txt is not utf-8 \(byte 0\).*latin-1"),
        ("wide.txt", "words".encode("utf-16"), r'wide.txt looks like UTF-16.*encoding="utf-16"'),
        ("torn.txt.gz", gzip.compress(b"x" * 1000)[:20], r"torn.txt.gz cannot be read"),
        ("fake.txt.gz", b"plain", r"fake.txt.gz cannot be read"),
        ("torn.txt.xz", lzma.compress(b"x" * 1000)[:30], r"torn.txt.xz cannot be read"),
    ],
)
def test_a_bad_file_is_an_error_with_its_name_and_the_cure(tmp_path, name, raw, message):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        corpus(tmp_path / name)


def test_a_bad_file_in_a_folder_is_left_out_with_a_warning(tmp_path):
    (tmp_path / "good.txt").write_text("words")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xff words")
    with pytest.warns(UserWarning, match=r"left out 1 of the files(.|\n)*bad.txt is not utf-8"):
        text = corpus(tmp_path)
    assert text.names == ("good.txt",)
    assert "bad.txt" in text.notes[0]
    (tmp_path / "good.txt").unlink()
    with pytest.raises(ValueError, match=r"no file in .* could be read(.|\n)*bad.txt"):
        corpus(tmp_path)


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "locked.txt").write_text("x")

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sys.modules["unrolled.training.corpus"], "open", refuse, raising=False)
    with pytest.raises(ValueError, match=r"locked.txt cannot be read: .*Permission denied"):
        corpus(tmp_path / "locked.txt")


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*nowhere"):
        corpus(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no text in .*: looked for"):
        corpus(tmp_path)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ValueError, match="no encoding that Python knows"):
        corpus(tmp_path / "x.txt", encoding="klingon")
    with pytest.raises(ValueError, match="max_bytes"):
        corpus(max_bytes=0)


def test_other_encodings(tmp_path):
    (tmp_path / "a.txt").write_bytes("né".encode("latin-1"))
    assert text_of(corpus(tmp_path / "a.txt", encoding="latin-1")) == "né\0"
    (tmp_path / "b.txt").write_bytes("né".encode("utf-16"))
    assert text_of(corpus(tmp_path / "b.txt", encoding="utf-16")) == "né\0"


def test_a_byte_limit_is_kept_and_noted(tmp_path):
    (tmp_path / "long.txt").write_text("é" * 100)
    text = corpus(tmp_path / "long.txt", max_bytes=51)  # inside a character
    assert text_of(text) == "é" * 25 + "\0"
    assert "max_bytes=51" in text.notes[0]
    whole = corpus(tmp_path / "long.txt", max_bytes=200)
    assert len(whole) == 201
    (tmp_path / "more.txt").write_text("a" * 100)
    assert len(corpus(tmp_path, max_bytes=150)) <= 152


def test_another_tokenizer(tmp_path):
    (tmp_path / "a.txt").write_text("b a c")
    words = corpus(tmp_path / "a.txt", encode=lambda t: [ord(w) - 96 for w in t.split()], vocab=4, end=0)
    assert words.tokens.tolist() == [2, 1, 3, 0]
    assert words.vocab == 4
    with pytest.raises(ValueError, match=r"a.txt: tokens run to 3, outside vocab=3"):
        corpus(tmp_path / "a.txt", encode=lambda t: [ord(w) - 96 for w in t.split()], vocab=3)


def test_split_holds_out_whole_documents():
    text = corpus()
    train, val = text.split(0.1)
    assert len(train) + len(val) == len(text)
    assert set(train.names).isdisjoint(val.names)
    assert abs(len(val) / len(text) - 0.1) < 0.05
    assert torch.equal(torch.cat([train.tokens, val.tokens]), text.tokens)
    assert train.ends[-1] == len(train)
    assert val.ends[-1] == len(val)
    assert train.tokens[-1] == END
    assert train.notes == ()


def test_split_of_one_book_cuts_and_says_so():
    book = Corpus.from_tokens(torch.arange(1000), names=["book"])
    train, val = book.split(0.2)
    assert (len(train), len(val)) == (800, 200)
    assert train.names == val.names == ("book",)
    assert "cut out of 'book'" in train.notes[0]
    lopsided = Corpus.from_tokens(torch.arange(1000), ends=(10, 1000))
    assert len(lopsided.split(0.1)[1]) == 100
    with pytest.raises(ValueError, match="between 0 and 1"):
        book.split(1.0)
    with pytest.raises(ValueError, match="too few"):
        Corpus.from_tokens(torch.tensor([1])).split(0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": torch.zeros(2, 2).long()}, "row"),
        ({"tokens": torch.zeros(3)}, "integers"),
        ({"tokens": torch.empty(0).long()}, "n >= 1"),
        ({"tokens": torch.tensor([-1, 2])}, "run from -1"),
        ({"tokens": torch.tensor([1, 9]), "vocab": 9}, "outside a vocabulary of 9"),
        ({"tokens": torch.tensor([1, 2]), "ends": (1,)}, "ends increase"),
        ({"tokens": torch.tensor([1, 2]), "ends": (2, 2)}, "ends increase"),
        ({"tokens": torch.tensor([1, 2]), "names": ("a", "b")}, "1 documents but 2 names"),
    ],
)
def test_impossible_tokens(arguments, message):
    with pytest.raises(ValueError, match=message):
        Corpus.from_tokens(**arguments)


# Batches --------------------------------------------------------------------------------------------------------


def test_an_epoch_takes_every_row_once_and_rows_do_not_overlap():
    text = Corpus.from_tokens(torch.arange(1003))
    rows = text.batches(batch=3, context=10, seed=7)
    assert rows.rows == 99
    assert rows.steps == 33
    for epoch in range(3):
        starts = torch.cat([rows(epoch * 33 + i)[0][:, 0] for i in range(33)]).sort().values
        assert len(starts) == 99
        assert (starts[1:] - starts[:-1] == 10).all()  # every row once, side by side
    firsts = [int(torch.cat([rows(e * 33 + i)[0] for i in range(33)]).min()) for e in range(8)]
    assert len(set(firsts)) > 3  # offsets differ from epoch to epoch


def test_targets_are_the_next_tokens():
    text = Corpus.from_tokens(torch.arange(500))
    x, y = text.batches(batch=4, context=9)(5)
    assert x.shape == y.shape == (4, 9)
    assert x.dtype == torch.int64
    assert torch.equal(x + 1, y)


def test_a_batch_depends_on_seed_and_index_alone():
    text = Corpus.from_tokens(torch.arange(300))
    one, two = text.batches(batch=4, context=9, seed=3), text.batches(batch=4, context=9, seed=3)
    want = [one(i) for i in range(40)]
    for i in (39, 0, 17, 3, 38, 1):  # any order, fresh object
        assert torch.equal(two(i)[0], want[i][0])
    other = text.batches(batch=4, context=9, seed=4)
    assert not torch.equal(other(0)[0], want[0][0])
    torch.manual_seed(0)
    before = torch.get_rng_state()
    text.batches(batch=4, context=9, seed=3)(0)
    assert torch.equal(before, torch.get_rng_state())


def test_ranks_share_out_the_batch_of_one_process():
    text = Corpus.from_tokens(torch.arange(1000))
    whole = text.batches(batch=6, context=7, seed=1)
    ranks = [text.batches(batch=2, context=7, seed=1, rank=r, world=3) for r in range(3)]
    for i in range(60):
        assert torch.equal(torch.cat([rank(i)[0] for rank in ranks]), whole(i)[0])


def test_in_order_without_shuffle():
    x, _ = Corpus.from_tokens(torch.arange(100)).batches(batch=3, context=5, shuffle=False)(0)
    assert torch.equal(x.flatten(), torch.arange(15))


def test_the_shortest_text_still_gives_rows():
    text = Corpus.from_tokens(torch.arange(6))
    x, y = text.batches(batch=4, context=5)(9)
    assert torch.equal(x, torch.arange(5).expand(4, 5))
    assert torch.equal(y, x + 1)
    with pytest.raises(ValueError, match="6 tokens are too few for a row of 6"):
        text.batches(batch=1, context=6)
    with pytest.raises(ValueError, match="at least 1"):
        text.batches(batch=0, context=2)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        text.batches(batch=1, context=2, rank=2, world=2)
    with pytest.raises(ValueError, match="at least 0"):
        text.batches(batch=1, context=2)(-1)
