"""Names of classes: in which order they are numbered, and that a file of any names is read as it was written."""

import os

import pytest

from mixer_jax.data import class_names
from mixer_jax.errors import ConfigError

ODD = [
    "cat",
    "caf\udce9",  # the byte E9, é in Latin-1, as Python reads the name of a folder
    "line\u2028separator",
    "a\nb",
    "a\r",
    "\r",
    "",
    " spaces ",
    "\u00a0",
    '"quoted"',
    '"',
    "back\\slash\\n",
    "\ufeffmark",
    "# comment",
    "a,b\tc",
    "\U0001f408",
    "x" * 255,
    "",
]


def read(tmp_path, content):
    (tmp_path / "classes.txt").write_bytes(content)
    return class_names.read(tmp_path / "classes.txt")


def order(names, chosen):
    return class_names.ordered(names, str(chosen), key="config.data.class_order")


@pytest.mark.parametrize("names", [ODD, ODD[::-1], [], *([name] for name in ODD)])
def test_what_is_written_is_read_again(tmp_path, names):
    content = class_names.to_bytes(names)
    content.decode()  # is UTF-8, whatever the names are
    assert read(tmp_path, content) == names


def test_plain_names_are_written_as_they_are():
    assert class_names.to_bytes(["tench, Tinca tinca", "été", "0"]) == "tench, Tinca tinca\nété\n0\n".encode()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\nb", ["a", "b"]),
        (b"a\nb\n\n\r\n\n", ["a", "b"]),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"caf\xe9\n", ["caf\udce9"]),
        ("a\u2028b\x85c\x0bd\n".encode(), ["a\u2028b\x85c\x0bd"]),
        (b'"half\n"a" b\n', ['"half', '"a" b']),
        (b"", []),
    ],
)
def test_files_from_elsewhere(tmp_path, content, names):
    assert read(tmp_path, content) == names


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "cannot be read: No such file"),
        (os.mkdir, "is no file; expected the names of classes"),
        (os.mkfifo, "is no file; expected the names of classes"),
        (lambda path: path.write_text("cat\n", encoding="utf-16"), "is no text in UTF-8"),
    ],
)
def test_what_is_no_file_of_names_is_refused(tmp_path, make, said):
    make(tmp_path / "names")
    with pytest.raises(ConfigError, match=f"names {said}"):
        class_names.read(tmp_path / "names")


def test_orders():
    names = {"10", "2", "1", "0", "a10b2", "a9b3", "a10b1", "01", "é"}
    assert order(names, "name") == sorted(names)
    assert order(names, "natural") == ["0", "01", "1", "2", "10", "a9b3", "a10b1", "a10b2", "é"]
    assert order({"1" * 9000, "2" + "0" * 9000}, "natural") == ["1" * 9000, "2" + "0" * 9000]  # too long for an int


def test_the_order_of_a_file(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_bytes(class_names.to_bytes(["dog", "none", "caf\udce9", "cat"]))
    assert order({"cat", "caf\udce9", "dog"}, file) == ["dog", "none", "caf\udce9", "cat"]
    with pytest.raises(ConfigError, match=r"classes.txt lacks 2 of the classes .* such as 'bird'"):
        order({"cat", "fish", "bird"}, file)
    file.write_text("dog\ncat\ndog\n")
    with pytest.raises(ConfigError, match="names the class 'dog' twice"):
        order({"cat"}, file)


@pytest.mark.parametrize("chosen", ["nautral", "x" * 5000, "~nosuchuser/classes.txt", "gs://a/classes.txt"])
def test_another_order_is_refused_in_a_short_line(chosen):
    with pytest.raises(ConfigError, match=r"config\.data\.class_order=") as caught:
        order({"cat"}, chosen)
    assert len(str(caught.value)) < 300
