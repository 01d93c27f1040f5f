"""Archives from elsewhere: headers that no program writes are refused in one line, and names are those of a folder."""

import io
import tarfile
import zipfile

import pytest

from mixer_jax.errors import ConfigError
from mixer_jax.prepare import archives
from tests.prepared import encoded, run


def header(name, size, kind=b"0"):
    """A header of a tar archive with the right sum, whatever its size says."""
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136] = (b"\x80" + size.to_bytes(11, "big")) if size >= 0 else (b"\xff" * 3 + (size % 2**72).to_bytes(9))
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content):
    return content + bytes(-len(content) % 512)


def with_record(key, value):
    """A tar archive of one image, before which a header of pax format gives a key."""
    content = key + b"=" + value + b"\n"
    length = next(n for n in range(9999) if n == len(f"{n} ") + len(content))
    record = b"%d %s" % (length, content)
    image = header(b"a/1.jpg", 3) + padded(b"abc")
    return header(b"PaxHeader", len(record), b"x") + padded(record) + image + bytes(1024)


def members(content):
    return list(archives.members(io.BytesIO(content), "in.tar", "expected images"))


def nested(depth):
    content = header(b"a/1.jpg", 3) + padded(b"abc") + bytes(1024)
    for _ in range(depth):
        content = header(b"b.tar", len(content)) + padded(content) + bytes(1024)
    return content


def test_an_archive_that_is_whole_is_read_where_it_lies():
    content = with_record(b"path", "caf\udce9/1.jpg".encode("utf-8", "surrogateescape"))
    [member] = members(content)
    assert content[member.offset :][: member.size] == b"abc"
    assert member[2:] == (3, False, None)
    [inner] = members(nested(2))
    assert (inner.name, inner.inner, inner.size) == ("b/b/a/1.jpg", True, 3)
    assert nested(2)[inner.offset :][:3] == b"abc"


@pytest.mark.parametrize(
    "content",
    [
        *(with_record(b"size", value) for value in (b"x", b"-1", b"nan", b"9" * 30)),
        *(with_record(b"GNU.sparse.map", value) for value in (b"x", b"9" * 5000)),
        with_record(b"hdrcharset", b"\xff"),
        header(b"././@LongLink", 2**62, b"L"),
        header(b"././@PaxHeader", 2**70, b"x"),
        header(b"a/1.jpg", -1) + bytes(1024),
        header(b"a/1.jpg", 2**70),
        header(b"a/1.jpg", 2**40) + bytes(1024),
        nested(600),
    ],
)
def test_headers_that_no_program_writes_are_refused_in_a_line(content):
    damaged = r"is cut short or damaged at byte \d+ of it|cannot be read as an archive: \w+: .*; expected images"
    with pytest.raises(ConfigError, match=rf"^--source: in\.tar.* ({damaged})$"):
        members(content)


def test_a_file_with_holes_is_passed_over():
    [member] = members(with_record(b"GNU.sparse.map", b"0,1"))
    assert member.reason == "it is stored with holes"


class Unmarked(zipfile.ZipInfo):
    """A member whose name is the bytes that it has in a folder; nothing says of which encoding they are."""

    def _encodeFilenameFlags(self):
        return self.filename.encode("utf-8", "surrogateescape"), self.flag_bits


@pytest.mark.parametrize("name", ["été", "caf\udce9", "a\u2028b", "back\\slash", "plain"])
def test_names_in_a_zip_are_those_of_the_folder(tmp_path, name):
    member = Unmarked(f"{name}/1.jpg")
    member.create_system = 3
    assert list(run(zip_of(tmp_path, member), tmp_path)["classes"]) == [name]


def zip_of(tmp_path, member):
    source = tmp_path / "in.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr(member, encoded(1))
    return source


def test_a_zip_from_windows_has_backslashes_between_folders(tmp_path):
    member = zipfile.ZipInfo("in/cat/1.jpg")
    member.create_system, member.filename = 0, "in\\cat\\1.jpg"
    assert run(zip_of(tmp_path, member), tmp_path)["classes"] == {"cat": {"in": 1}}


def test_what_a_damaged_zip_says_is_cut(tmp_path):
    source = zip_of(tmp_path, zipfile.ZipInfo("a/1.jpg"))
    content = bytearray(source.read_bytes())
    content[26:28] = b"\xff\x02"  # the length of the name before the bytes
    source.write_bytes(content)
    with pytest.raises(ConfigError, match="in.zip is cut short or damaged: BadZipFile: ") as caught:
        run(source, tmp_path)
    assert len(str(caught.value)) < len(str(source)) + 400


def test_tarfile_writes_what_the_headers_here_say():
    with tarfile.open(fileobj=io.BytesIO(with_record(b"path", b"b/2.jpg"))) as archive:
        assert archive.getnames() == ["b/2.jpg"]
