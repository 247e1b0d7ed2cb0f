"""A weight file is what its header says, to the byte, or it is not opened further."""

import json
import struct
from pathlib import Path

import pytest

from lifecycle.errors import InputError
from lifecycle.model.safetensors_header import INDEX, Tensor, read_header, weights_of

HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def write(path: Path, header: object = HEADER, *, data: int = 32, length: int | None = None) -> Path:
    """A file with this header and so many bytes of tensors; `length`: what it says its header has."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * data)
    return path


def test_a_whole_file_has_the_tensors_of_its_header(tmp_path):
    assert read_header(write(tmp_path / "w")) == {"a": Tensor("F32", (2, 3)), "b": Tensor("BF16", (4,))}


@pytest.mark.parametrize("length", [2**60, 2**63, 0, 10**9, 5000])
def test_a_header_said_to_be_larger_than_the_file_or_empty_is_not_read(tmp_path, length):
    with pytest.raises(InputError, match="expected a header within its"):
        read_header(write(tmp_path / "w", length=length))


@pytest.mark.parametrize(("data", "found"), [(31, "cut short"), (33, "added to"), (0, "cut short")])
def test_a_file_cut_short_or_added_to_is_refused(tmp_path, data, found):
    with pytest.raises(InputError, match=found):
        read_header(write(tmp_path / "w", data=data))


def test_a_file_shorter_than_its_length_field_is_refused(tmp_path):
    (tmp_path / "w").write_bytes(b"\1\0\0")
    with pytest.raises(InputError, match="expected a header within its 3 bytes"):
        read_header(tmp_path / "w")


@pytest.mark.parametrize("text", [b"no json", b"[" * 5000, b"[1]", b'{"__metadata__": {}}'])
def test_a_header_that_names_no_tensors_is_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"expected (a header in JSON|an object as header|tensors)"):
        read_header(write(tmp_path / "w", text, data=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [2**31, 2**31]}, "expected 18,446,744,073,709,551,616 bytes for a"),
        ({"shape": [-2, -3]}, "expected shape and data_offsets of a"),
        ({"shape": [True, 6]}, "expected shape and data_offsets of a"),
        ({"data_offsets": [0]}, "expected shape and data_offsets of a"),
        ({"data_offsets": [24, 0]}, "bytes for a"),
        ({"dtype": "I8"}, "found a in 'I8'"),
    ],
)
def test_a_tensor_that_is_not_its_bytes_is_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_header(write(tmp_path / "w", {**HEADER, "a": {**HEADER["a"], **change}}))


def test_tensors_that_overlap_or_leave_a_gap_are_refused(tmp_path):
    for offsets, data in (([16, 24], 24), ([28, 36], 36)):
        with pytest.raises(InputError, match="expected b to begin at byte 24"):
            read_header(write(tmp_path / "w", {**HEADER, "b": {**HEADER["b"], "data_offsets": offsets}}, data=data))


def index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_an_index_names_files_beside_it_and_each_tensor_once(tmp_path):
    one, two = write(tmp_path / "1.safetensors"), tmp_path / "2.safetensors"
    write(two, {"c": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}, data=2)
    index(tmp_path, {"a": one.name, "b": one.name, "c": two.name})
    assert set(weights_of(tmp_path)) == {one, two}
    for wrong in ({"a": one.name, "c": two.name}, {"a": one.name, "b": one.name, "c": two.name, "d": two.name}):
        index(tmp_path, wrong)
        with pytest.raises(InputError, match="expected each tensor in the file it names"):
            weights_of(tmp_path)


@pytest.mark.parametrize("name", ["../1.safetensors", "/etc/passwd", "1.bin", "missing.safetensors", 7])
def test_an_index_that_reaches_elsewhere_is_refused(tmp_path, name):
    (tmp_path / "below").mkdir()
    write(tmp_path / "1.safetensors")
    index(tmp_path / "below", {"a": name})
    with pytest.raises(InputError, match="expected the name of a safetensors file beside it"):
        weights_of(tmp_path / "below")


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match="found neither"):
        weights_of(tmp_path)
    index(tmp_path, {})
    with pytest.raises(InputError, match="expected a weight_map"):
        weights_of(tmp_path)
