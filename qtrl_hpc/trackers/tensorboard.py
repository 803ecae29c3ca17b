"""TensorBoard: ``tensorboard --logdir RUN_DIR``."""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING

from qtrl_hpc.trackers.event_file import EventFile

CONFIGURATION = "configuration"


class TensorBoard:
    """Write event files, a new one at each start; see ``Tracker``.

    Args:
        folder: of the event files.
        update: to go on after.
        about: shown on the page Text, as it stands.
    """

    def __init__(self, folder: Path, update: int, about: str) -> None:
        self.logged = update
        self._file = EventFile(folder)
        self._event = Event()
        self._tags: tuple[str, ...] = ()
        self.cut_back(update)
        self._write(update, _text(CONFIGURATION, about))
        self._file.sync()

    def log(self, update: int, values: Mapping[str, float]) -> None:
        """Write one event with all values."""
        tags = tuple(values)
        if tags != self._tags:  # most updates have the same, and then the numbers alone are set anew
            self._tags = tags
            self._event = Event(summary=Summary(value=[Summary.Value(tag=tag) for tag in tags]))
        event = self._event
        event.wall_time, event.step = time.time(), update
        for slot, value in zip(event.summary.value, values.values(), strict=True):
            slot.simple_value = value
        self._file.write(event)

    def video(self, update: int, tag: str, path: Path) -> None:
        """Write a GIF as an image, which the page Images shows moving."""
        content = path.read_bytes()
        width, height = (int.from_bytes(content[at : at + 2], "little") for at in (6, 8))
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        self._write(update, Summary.Value(tag=tag, image=image))

    def flush(self) -> None:
        """Wait until all events are on disk."""
        self._file.sync()

    def cut_back(self, update: int) -> None:
        """Write the mark at which readers forget events of later updates."""
        session = SessionLog(status=SessionLog.START)
        self._file.write(Event(wall_time=time.time(), step=update + 1, session_log=session))

    def close(self, *, done: bool) -> None:
        """Write no more."""
        self._file.close()

    def _write(self, update: int, value: Summary.Value) -> None:
        self._file.write(Event(wall_time=time.time(), step=update, summary=Summary(value=[value])))


def _text(tag: str, text: str) -> Summary.Value:
    """Return text for the page Text; Markdown shows as it stands what is indented by four blanks."""
    shown = "\n".join(f"    {line}" for line in text.splitlines())
    return Summary.Value(
        tag=tag,
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
        tensor=TensorProto(
            dtype=DT_STRING,
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
            string_val=[shown.encode()],
        ),
    )
