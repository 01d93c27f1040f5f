"""Where the metrics of a run go: metrics.jsonl and TensorBoard events, through clu's writers."""

import contextlib
import importlib
import json
import logging
import math
import os
import socket
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import clu
import jax
from clu import parameter_overview
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from mixer_jax.errors import RunError
from mixer_jax.workdir import layout, reading

_OF_CLU = ("clu.metric_writers", "clu.periodic_actions")


def _import_clu() -> tuple[types.ModuleType, types.ModuleType]:
    """Imports clu's metric writers and periodic actions without TensorFlow, for this project alone.

    They import clu's TensorFlow summary writer on the way. An empty stand-in takes its place, and TensorBoard events
    are written below through the `tensorboard` package: so a run is the same with and without TensorFlow, and starts
    without the seconds that its import takes. What was imported so is not left for others: to them, clu's modules are
    as they were, and work or fail as they would have.
    """

    def take_out() -> dict[str, types.ModuleType]:
        names = [name for name in sys.modules if name.startswith(_OF_CLU)]
        return {name: sys.modules.pop(name) for name in names}

    parts = [name.partition(".")[2] for name in _OF_CLU]
    attributes = {part: getattr(clu, part) for part in parts if hasattr(clu, part)}
    before = take_out()
    stand_in = types.ModuleType("clu.metric_writers.summary_writer")
    stand_in.SummaryWriter = None  # type: ignore[attr-defined]
    sys.modules[stand_in.__name__] = stand_in
    try:
        writers, actions = (importlib.import_module(name) for name in _OF_CLU)
    finally:
        take_out()
        sys.modules.update(before)
        for part in parts:
            if part in attributes:
                setattr(clu, part, attributes[part])
            elif hasattr(clu, part):
                delattr(clu, part)
    return writers, actions


if TYPE_CHECKING:
    from clu import metric_writers, periodic_actions
else:
    metric_writers, periodic_actions = _import_clu()

__all__ = ["JsonLinesWriter", "TensorBoardWriter", "create_writer", "metric_writers", "overview", "periodic_actions"]


logger = logging.getLogger("mixer_jax")


def _unsupported(self, *args, **kwargs):
    raise NotImplementedError(f"{type(self).__name__} writes scalars and texts only")


class _ScalarWriter(metric_writers.MetricWriter):
    """A clu writer of scalars and texts, which is all that training writes, to one file.

    What cannot be written, as on a full disk, is an error of the next `flush` or `close`: there the run can meet it.
    """

    write_summaries = write_images = write_videos = write_audios = write_histograms = _unsupported

    def __init__(self, path: Path, mode: str):
        self._path = path
        self._file = path.open(mode)
        self._failure: OSError | None = None

    def write_hparams(self, hparams: Mapping[str, object]):
        self.write_texts(0, {"hparams": json.dumps(hparams, indent=2, default=str)})

    def flush(self):
        if self._failure:
            raise RunError(f"{self._path} cannot be written: {self._failure.strerror}")

    def close(self):
        with self._noting_failure():
            self._file.close()
        self.flush()

    def _write(self, write, data):
        with self._noting_failure():
            write(data)
            self._file.flush()  # what is written can be read at once

    @contextlib.contextmanager
    def _noting_failure(self):
        try:
            yield
        except OSError as error:
            self._failure = self._failure or error


class JsonLinesWriter(_ScalarWriter):
    """Appends one JSON object a write: {"step": ..., every scalar by name}; a value that is not finite becomes null.

    Lines of steps after `start`, left by a run that was killed after its last checkpoint, are removed first.
    """

    def __init__(self, path: Path, *, start: int):
        if path.exists():
            _drop_after(path, start)
        super().__init__(path, "a")

    def write_scalars(self, step: int, scalars: Mapping[str, float]):
        values = {name: _number(value) for name, value in scalars.items()}
        self._write(self._file.write, json.dumps({"step": step, **values}) + "\n")

    def write_texts(self, step: int, texts: Mapping[str, str]):
        pass  # the config lies beside, in config.json


class TensorBoardWriter(_ScalarWriter):
    """Writes a TensorBoard event file; TensorBoard drops what an earlier run wrote after step `start`."""

    def __init__(self, directory: Path, *, start: int):
        # Not by tensorboard's EventFileWriter: what its thread cannot write, it shows as a traceback.
        name = f"events.out.tfevents.{time.time_ns() / 1e9:.6f}.{socket.gethostname()}.{os.getpid()}"
        super().__init__(directory / name, "wb")
        self._records = RecordWriter(self._file)
        self._add(file_version="brain.Event:2")
        # TensorBoard drops the step that the event names, too.
        self._add(step=start + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def write_scalars(self, step: int, scalars: Mapping[str, float]):
        values = [summary_pb2.Summary.Value(tag=k, simple_value=float(v)) for k, v in scalars.items()]
        self._add(step=step, summary=summary_pb2.Summary(value=values))

    def write_texts(self, step: int, texts: Mapping[str, str]):
        plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
        values = [
            summary_pb2.Summary.Value(
                tag=name,
                metadata=summary_pb2.SummaryMetadata(plugin_data=plugin),
                tensor=tensor_pb2.TensorProto(
                    dtype=types_pb2.DT_STRING,
                    string_val=[f"```\n{text}\n```".encode()],
                    tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)]),
                ),
            )
            for name, text in texts.items()
        ]
        self._add(step=step, summary=summary_pb2.Summary(value=values))

    def _add(self, **what):
        self._write(self._records.write, event_pb2.Event(wall_time=time.time(), **what).SerializeToString())


def create_writer(workdir: Path, *, start: int) -> metric_writers.MetricWriter:
    """Makes the writer of a run: TensorBoard events and metrics.jsonl, written in the background.

    Args:
      workdir: the work directory, which exists.
      start: step that the run starts from.

    Returns:
      A clu MetricWriter; on hosts other than the first it writes nothing.

    Raises:
      RunError: a file cannot be written; also of the writer's `flush` and `close`.
    """
    if jax.process_index() != 0:
        return metric_writers.MultiWriter([])
    try:
        writers = [JsonLinesWriter(workdir / layout.METRICS, start=start), TensorBoardWriter(workdir, start=start)]
    except OSError as error:
        raise RunError(f"the metrics cannot be written: {error}") from error
    return metric_writers.AsyncMultiWriter(writers)


def overview(params: dict) -> str:
    """Returns a table of the parameters: name, shape, type and size of each, and their total."""
    return parameter_overview.get_parameter_overview(params, include_stats=False)


def _drop_after(path: Path, start: int) -> None:
    """Removes the lines of steps after `start`, and those that are none of ours, from a file of metrics."""
    kept, damaged = [], 0
    for line in reading.read_bytes(path).decode(errors="replace").splitlines():
        try:
            step = reading.parse_object(line).get("step")
        except ValueError:  # such as the last line, which a kill can cut short
            step = None
        if not isinstance(step, int):
            damaged += 1
        elif step <= start:
            kept.append(line + "\n")
    if damaged:
        logger.warning("%s: left out %d damaged line%s", path, damaged, "s" if damaged > 1 else "")
    with layout.whole_file(path) as file:  # at once, so that a kill here loses nothing
        file.writelines(kept)


def _number(value: float) -> int | float | None:
    value = value if isinstance(value, int) else float(value)
    return value if math.isfinite(value) else None
