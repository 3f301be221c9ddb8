"""Pose bundles: MediaPipe's two pose models made into the one file its Tasks API opens.

Packages of MediaPipe carry a pose detector and a pose landmark model apart; the Tasks API wants
both in one zip (``.task``), each stating how its input is normalised. The landmark model of the
packages does not state it: its graph (modules/pose_landmark/pose_landmark_by_roi_cpu.pbtxt) feeds
it 0..1, which is mean 0, standard deviation 255 for pixels 0..255. The detector (-1..1) does.
"""

import io
import zipfile

import flatbuffers
import numpy as np
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema
from mediapipe.tasks.metadata import schema_py_generated as model_schema

MEMBERS = ("pose_detector.tflite", "pose_landmarks_detector.tflite")
"""Names that the Tasks API looks for in the zip (mediapipe/tasks/cc/vision/pose_landmarker)."""

DETECTOR_MEAN_STD = (127.5, 127.5)
LANDMARKS_MEAN_STD = (0.0, 255.0)

METADATA_NAME = b"TFLITE_METADATA"
ALIGNMENT_BYTES = 16
"""Tensor data in a TFLite file lies at multiples of this (``force_align`` in its schema)."""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
PADDING_ID = 0xD935
"""Id of a zip header field that only pads (Android's zipalign)."""


def bundle(detector: bytes, landmarks: bytes) -> bytes:
    """Return the bundle of a pose detector and a pose landmark model, both TFLite.

    Normalisation is stated where a model does not state it. Same models, same bytes.
    """
    models = (
        _with_normalisation(detector, *DETECTOR_MEAN_STD),
        _with_normalisation(landmarks, *LANDMARKS_MEAN_STD),
    )
    archive_bytes = io.BytesIO()
    with zipfile.ZipFile(archive_bytes, "w", zipfile.ZIP_STORED) as archive:
        for name, model in zip(MEMBERS, models, strict=True):
            member = zipfile.ZipInfo(name, ZIP_EPOCH)
            member.create_system = 3  # the same bytes on every system
            data_at = archive_bytes.tell() + 30 + len(name) + 4  # 30: local header, 4: field head
            padding = -data_at % ALIGNMENT_BYTES
            member.extra = (
                PADDING_ID.to_bytes(2, "little") + padding.to_bytes(2, "little") + bytes(padding)
            )
            archive.writestr(member, model)
    return archive_bytes.getvalue()


def normalisation(model: bytes) -> tuple[float, float] | None:
    """Return the mean and standard deviation that a TFLite model states, or None."""
    content = model_schema.ModelT.InitFromObj(model_schema.Model.GetRootAs(model, 0))
    for entry in content.metadata or []:
        if entry.name == METADATA_NAME:
            data = bytes(content.buffers[entry.buffer].data)
            stated = metadata_schema.ModelMetadataT.InitFromObj(
                metadata_schema.ModelMetadata.GetRootAs(data, 0)
            )
            for unit in stated.subgraphMetadata[0].inputTensorMetadata[0].processUnits or []:
                if unit.optionsType == metadata_schema.ProcessUnitOptions.NormalizationOptions:
                    return float(unit.options.mean[0]), float(unit.options.std[0])
    return None


def _with_normalisation(model: bytes, mean: float, std: float) -> bytes:
    """Return the model with metadata that states its normalisation; unchanged if it does."""
    if normalisation(model) is not None:
        return model
    content = model_schema.ModelT.InitFromObj(model_schema.Model.GetRootAs(model, 0))
    data = model_schema.BufferT()
    data.data = np.frombuffer(_metadata(content.subgraphs[0], mean, std), np.uint8)
    content.buffers.append(data)
    entry = model_schema.MetadataT()
    entry.name = METADATA_NAME
    entry.buffer = len(content.buffers) - 1
    content.metadata = [*(content.metadata or []), entry]
    builder = _AligningBuilder(len(model) + 4096)
    builder.Finish(content.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _metadata(graph: model_schema.SubGraphT, mean: float, std: float) -> bytes:
    """Return TFLite metadata for a graph whose one input is an RGB image."""
    unit = metadata_schema.ProcessUnitT()
    unit.optionsType = metadata_schema.ProcessUnitOptions.NormalizationOptions
    unit.options = metadata_schema.NormalizationOptionsT()
    unit.options.mean, unit.options.std = [mean], [std]
    image = metadata_schema.TensorMetadataT()
    image.name = b"image"
    image.content = metadata_schema.ContentT()
    image.content.contentPropertiesType = metadata_schema.ContentProperties.ImageProperties
    image.content.contentProperties = metadata_schema.ImagePropertiesT()
    image.content.contentProperties.colorSpace = metadata_schema.ColorSpaceType.RGB
    image.processUnits = [unit]
    tensors = metadata_schema.SubGraphMetadataT()
    tensors.inputTensorMetadata = [image]
    tensors.outputTensorMetadata = []
    for place in graph.outputs:
        output = metadata_schema.TensorMetadataT()
        output.name = graph.tensors[place].name
        tensors.outputTensorMetadata.append(output)
    whole = metadata_schema.ModelMetadataT()
    whole.name = b"BlazePose"
    whole.subgraphMetadata = [tensors]
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), file_identifier=b"M001")  # id of the metadata schema
    return bytes(builder.Output())


class _AligningBuilder(flatbuffers.Builder):  # type: ignore[misc]  # the package has no types
    """A builder that honours the schema's ``force_align``, which its Python code leaves out."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
        return int(super().StartVector(elemSize, numElems, max(alignment, ALIGNMENT_BYTES)))
