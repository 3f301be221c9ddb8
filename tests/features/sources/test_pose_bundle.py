import io
import zipfile

import flatbuffers
import numpy as np
import pytest
from mediapipe.tasks.metadata import schema_py_generated as schema

from features.sources.pose_bundle import ALIGNMENT_BYTES, MEMBERS, bundle, normalisation

NUMBERS = np.arange(1, 200, dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> bytes:
    """Return a TFLite model of one tensor with data, which states no normalisation."""
    content = schema.ModelT()
    content.version = 3
    content.description = b"a model"
    tensor = schema.TensorT()
    tensor.name, tensor.buffer, tensor.shape = b"image", 1, [1, 8, 8, 3]
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], []
    content.subgraphs = [graph]
    empty, full = schema.BufferT(), schema.BufferT()
    full.data = NUMBERS
    content.buffers = [empty, full]
    builder = flatbuffers.Builder(1024)
    builder.Finish(content.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def members(task: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(task)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_both_models_lie_in_the_bundle_and_state_their_normalisation(model: bytes) -> None:
    assert normalisation(model) is None
    found = members(bundle(model, model))
    assert tuple(found) == MEMBERS
    assert [normalisation(found[name]) for name in MEMBERS] == [(127.5, 127.5), (0.0, 255.0)]


def test_a_model_that_states_its_normalisation_is_left_as_it_is(model: bytes) -> None:
    detector, landmarks = members(bundle(model, model)).values()
    again = members(bundle(landmarks, detector))  # in each other's place: nothing is added
    assert list(again.values()) == [landmarks, detector]


def test_a_model_keeps_its_graph_and_data(model: bytes) -> None:
    found = members(bundle(model, model))[MEMBERS[1]]
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(found, 0))
    assert found[4:8] == b"TFL3"
    assert content.description == b"a model"
    assert content.subgraphs[0].tensors[0].name == b"image"
    np.testing.assert_array_equal(content.buffers[1].data, NUMBERS)


def test_the_same_models_give_the_same_bytes(model: bytes) -> None:
    assert bundle(model, model) == bundle(model, model)


def test_tensor_data_is_aligned_in_the_file(model: bytes) -> None:
    task = bundle(model, model)
    with zipfile.ZipFile(io.BytesIO(task)) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
    for content in members(task).values():
        assert task.index(content) % ALIGNMENT_BYTES == 0
        assert content.index(NUMBERS.tobytes()) % ALIGNMENT_BYTES == 0
