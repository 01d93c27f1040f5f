"""Which of the sets of weights in a file is meant, and how its keys read: under what prefix, in which layout.

Training programs save more than one set of weights, each under a prefix: "state_dict.", "model_ema.module.", "params/".
A set is told by one key that every model of a family has, whatever stands before it.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.models.family import Family
from mixer_jax.models.layouts import Layout
from mixer_jax.weights.contents import shown

_NO_WEIGHTS = re.compile(r"opt|optimi[sz]er.*|opt_state")  # moments have the names of what they are of
_MOST_PARTS = 16
_AVERAGED = re.compile(r"ema|ema_.*|.*_ema")


@dataclasses.dataclass(frozen=True)
class Part:
    """One set of weights in a file.

    Attributes:
      family: what its model belongs to.
      layout: how its keys and shapes read.
      prefix: what stands before each of its keys in the file.
      keys: the file's key of each array, by the layout's key.
      beside: what the other sets in the file are called.
    """

    family: Family
    layout: Layout
    prefix: str
    keys: Mapping[str, str]
    beside: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What messages and the choice of a part call it: its prefix; "" where there is none."""
        return self.prefix[:-1]


def find(
    arrays: Mapping[str, np.ndarray], source: str, *, wanted: str | None = None, others: Sequence[str] = ()
) -> Part:
    """Finds the weights of a model among the arrays of a file.

    Of several sets, moving averages are taken, as in timm: what is evaluated is what was averaged.

    Args:
      arrays: all arrays of the file by key.
      source: what messages call the file.
      wanted: which set, by its prefix or the first word of that, such as "state_dict"; None for the usual choice.
      others: keys of what is no array, for messages.

    Raises:
      ConfigError: there is none, none of that name, or no usual choice.
    """
    found = _parts(arrays, source)
    if not found:
        raise ConfigError(_nothing_found(arrays, source, others))
    by_title = {part.title: part for part in found}
    if wanted is not None:
        meant = [part for title, part in by_title.items() if wanted in (title, re.split(r"[./]", title)[0])]
    else:
        meant = [part for part in found if _is(_AVERAGED, part)] if len(found) > 1 else found
        meant = meant or [part for part in found if not part.prefix]
    if len(meant) != 1:
        names = ", ".join(shown(title) or "'' (keys without a prefix)" for title in by_title)
        advice = "name one as the part" if wanted is None else f"the part {shown(wanted)!r} is none or not one of them"
        raise ConfigError(f"{source} holds the sets of weights {names}; {advice}")
    return dataclasses.replace(meant[0], beside=tuple(title for title in by_title if title != meant[0].title))


def _parts(arrays: Mapping[str, np.ndarray], source: str) -> list[Part]:
    begins: dict[str, tuple[Family, Layout]] = {}
    for family in registry.FAMILIES:
        signature = next(iter(family.telling), None)
        for layout in family.layouts if signature else ():
            telling, separator = layout.key(str(signature)), layout.key("/")
            for key in arrays:
                prefix = key.removesuffix(telling)
                if prefix != key and (not prefix or prefix.endswith(separator)):
                    begins.setdefault(prefix, (family, layout))
    if len(begins) > _MOST_PARTS:
        raise ConfigError(f"{source} holds {len(begins):,} sets of weights; expected at most {_MOST_PARTS}")
    parts = []
    for prefix, (family, layout) in begins.items():
        within = {key.removeprefix(prefix): key for key in arrays if key.startswith(prefix)}
        keys = {ours: within[theirs] for ours, theirs in layout.keys(within).items()}
        parts.append(Part(family, layout, prefix, keys))
    return [part for part in parts if not _is(_NO_WEIGHTS, part)]


def _is(kind: re.Pattern, part: Part) -> bool:
    return any(kind.fullmatch(word) for word in re.split(r"[./]", part.title))


def _nothing_found(arrays: Mapping[str, np.ndarray], source: str, others: Sequence[str]) -> str:
    expected = [
        f"{layout.key(next(iter(family.telling)))} ({family.name}, {layout.title})"
        for family in registry.FAMILIES
        for layout in family.layouts
        if family.telling
    ]
    begin = ", ".join(shown(key) for key in list(arrays)[:3]) or "nothing"
    beside = f", beside {', '.join(shown(key) for key in others[:3])}" if others else ""
    return (
        f"{source} holds no model of a known family: expected one of the keys {', '.join(expected)}; "
        f"its {len(arrays)} keys begin with {begin}{beside}"
    )
