"""All examples of a data set on the devices, each once; and what becomes of images that cannot be decoded."""

import logging
from collections.abc import Callable, Iterator, Mapping

import jax

from mixer_jax.data import batches
from mixer_jax.data.decode import ImageError
from mixer_jax.data.sources import Examples
from mixer_jax.errors import RunError, readable
from mixer_jax.runtime import hosts, mesh
from mixer_jax.steps.types import Batch

logger = logging.getLogger("mixer_jax")

_NAMED = 10  # images in an error's one line; the log has them all


class UndecodableError(RunError):
    """Images of an evaluation cannot be decoded; of several processes, all raise it together."""


class EvalBatches:
    """Makes the batches of a whole data set on the devices, padded and masked, as often as it is called.

    Attributes:
      examples: size of the data set.
      undecodable: of the last whole pass, why images of this process's share could not be decoded, by their numbers.
      left_out: how many there were in all processes.
    """

    def __init__(
        self,
        source: Examples,
        transform: Callable[[dict], dict],
        device_mesh: jax.sharding.Mesh,
        *,
        reading: Mapping,
        skip: bool,
    ):
        """Takes a data set.

        Args:
          source: the data set.
          transform: record -> {"image": uint8 (height, width, 3), "label": int32}.
          device_mesh: where the batches go.
          reading: the other arguments of `data.batches.eval_batches`.
          skip: whether images that cannot be decoded are left out. Otherwise they are an error, when the last batch
            has been asked for, so that all are known.
        """
        self.examples = len(source)
        self.undecodable: dict[int, str] = {}
        self.left_out = 0
        self._source = source
        self._transform = transform
        self._reading = reading
        self._mesh = device_mesh
        self._skip = skip

    def __call__(self) -> Iterator[Batch]:
        """Yields the batches.

        Raises (behind the last batch):
          UndecodableError: images cannot be decoded, and are not skipped, or none can.
        """
        numbers: list[int] = []
        host_batches = batches.eval_batches(self._source, self._transform, **self._reading, undecodable=numbers)
        try:
            yield from mesh.to_devices(host_batches, self._mesh)
        except batches.NoneDecodableError:  # in all processes alike
            numbers = list(range(self.examples))
            self.left_out = self.examples
        else:
            self.left_out = sum(map(int, hosts.gather(str(len(numbers))))) if jax.process_count() > 1 else len(numbers)
        self.undecodable = {number: self._reason(number) for number in numbers}
        if self.left_out:
            self._report()

    def _reason(self, number: int) -> str:
        # The pass may have been read in processes of their own, which hand over no reasons.
        try:
            self._transform(self._source[number])
        except ImageError as error:
            return str(error)
        return "it could not be read before, and can be now"

    def _report(self) -> None:
        names = [readable(self._source.describe(number)) for number in self.undecodable]
        for name, reason in zip(names, self.undecodable.values(), strict=True):
            logger.warning("%s: %s", name, reason)
        if self._skip and self.left_out < self.examples:
            logger.warning("%d of %d images cannot be decoded, and are left out", self.left_out, self.examples)
            return
        listed = ", ".join(names[:_NAMED])
        if (others := self.left_out - len(names[:_NAMED])) > 0:
            listed += f"{' and ' if names else ''}{others} {'more' if names else 'of other processes'}"
        if self.left_out == self.examples:
            raise UndecodableError(f"none of the {self.examples} images can be decoded: {listed}; mend or replace them")
        raise UndecodableError(
            f"{self.left_out} of {self.examples} images of an evaluation cannot be decoded: {listed}; mend or remove "
            "them, or have them left out and counted: --config.eval.undecodable=skip"
        )
