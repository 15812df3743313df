import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import deserialize

from primep2p.model.records import TensorSpec
from primep2p.wire.safetensors import RESERVED_NAME, data_bytes, header_bytes

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(
    lambda name: name != RESERVED_NAME
)
specs = st.lists(
    st.builds(TensorSpec, names, st.just("float32"), st.lists(st.integers(0, 4), max_size=3).map(tuple)),
    min_size=1,
    max_size=6,
    unique_by=lambda tensor: tensor.name,
).map(tuple)


@given(specs)
def test_the_formats_own_library_reads_the_header_as_it_is_meant(tensors):
    read = deserialize(header_bytes(tensors) + bytes(data_bytes(tensors)))
    assert {name: (found["dtype"], tuple(found["shape"])) for name, found in read} == {
        tensor.name: ("F32", tensor.shape) for tensor in tensors
    }


@pytest.mark.parametrize("names", [["a", "a"], ["__metadata__"]])
def test_names_that_no_file_has_are_refused(names):
    with pytest.raises(ValueError, match="named"):
        header_bytes([TensorSpec(name, "float32", (1,)) for name in names])
