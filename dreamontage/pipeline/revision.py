"""What a loaded pipeline makes films with, as one name that segments are stored under.

An untouched folder's revision is that of its files. Whatever else determines latents changes it, in
a way that another process finds again: the scheduler's class and config, settings of the pipeline,
every active adapter with its scale, and speed options. Undone, it is the folder's again.
"""

from __future__ import annotations

import hashlib
import uuid
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from dreamontage.digests import digest
from dreamontage.pipeline.acceleration import SpeedOptions
from dreamontage.pipeline.acceleration.effects import revision as with_speed

CONFIG = (
    *("boundary_ratio", "conditioning", "expand_timesteps", "max_sequence_length"),
    *("initial_noise_scale", "initial_noise_scale_channels"),
)
"""The settings of a pipeline that determine latents and are in no other part of a segment's key."""

_UNSAVED = "unsaved-"
_COMPONENTS = ("transformer", "transformer_2", "vae", "text_encoder", "tokenizer", "image_encoder")

# A tensor's digest for as long as it lives and is not written to.
_digests: WeakIdKeyDictionary = WeakIdKeyDictionary()


def unsaved() -> str:
    """A revision that is met nowhere else: for components that come from no folder."""
    return _UNSAVED + uuid.uuid4().hex


def derived(name: str, *parts: Any) -> str:
    """The revision of what ``name`` is the revision of, changed in a way that the parts, as JSON,
    determine. What is unsaved stays so.
    """
    return (_UNSAVED if name.startswith(_UNSAVED) else "") + digest([name, *parts])


class Revision:
    """The name of what a pipeline is at one moment, from which later ones are derived."""

    def __init__(self, name: str, pipe: Any) -> None:
        self.name = name
        self._parts = _parts(pipe)
        self._speed = _speed(pipe)
        self._components = {each: _reference(pipe, each) for each in _COMPONENTS}
        self._replaced: tuple[list[int], str] | None = None

    def of(self, pipe: Any) -> str:
        """The revision of the pipeline as it is now."""
        name = self._unless_replaced(pipe)
        parts = _parts(pipe)
        if parts != self._parts:
            name = derived(name, parts)
        speed = _speed(pipe)
        return name if speed == self._speed else with_speed(name, speed)

    def _unless_replaced(self, pipe: Any) -> str:
        """The name, or one met nowhere else where a component was exchanged for another."""
        changed = [
            each
            for each, known in self._components.items()
            if getattr(pipe, each, None) is not known()
        ]
        if not changed:
            return self.name
        now = [id(getattr(pipe, each, None)) for each in changed]
        if self._replaced is None or self._replaced[0] != now:
            self._replaced = now, unsaved()
        return self._replaced[1]


def _reference(pipe: Any, name: str) -> Any:
    component = getattr(pipe, name, None)
    return (lambda: None) if component is None else weakref.ref(component)


def _speed(pipe: Any) -> SpeedOptions:
    options: SpeedOptions | None = getattr(pipe, "speed", None)
    return options or SpeedOptions()


def _parts(pipe: Any) -> dict[str, Any]:
    """What determines latents beside the components' own weights, as JSON."""
    return {
        "scheduler": [type(pipe.scheduler).__name__, _plain(pipe.scheduler.config)],
        "config": {name: pipe.config[name] for name in CONFIG},
        # A DiT may be grown in memory, by channels that its folder's does not have.
        "channels": [
            expert.config.in_channels
            for expert in (pipe.transformer, pipe.transformer_2)
            if expert is not None
        ],
        "adapters": [
            [name, *adapter]
            for name in ("transformer", "transformer_2", "text_encoder")
            for adapter in _adapters(getattr(pipe, name, None))
        ],
    }


def _plain(value: Any) -> Any:
    """A config as JSON: private entries, such as diffusers' version, determine nothing."""
    if isinstance(value, Mapping):
        return {
            str(key): _plain(item) for key, item in value.items() if not str(key).startswith("_")
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _adapters(component: Any) -> Iterator[list[Any]]:
    """Each adapter that takes part in a component's calls, by its weights and scales and not by its
    name; in the order in which they are added up, since that decides the rounding.
    """
    if getattr(component, "peft_config", None) is None:
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [
        (path, module)
        for path, module in component.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    names: dict[str, None] = {}
    for _, layer in layers:
        names |= dict.fromkeys(layer.merged_adapters)
        if not layer.disable_adapters:
            names |= dict.fromkeys(layer.active_adapters)
    for name in names:
        weights, scales = [], []
        for path, layer in layers:
            merged = name in layer.merged_adapters
            if not merged and (layer.disable_adapters or name not in layer.active_adapters):
                continue
            found = list(_weights(layer, name))
            if found:
                weights += [[path, kind, _tensor_digest(value)] for kind, value in found]
                scales.append([path, getattr(layer, "scaling", {}).get(name), merged])
        if weights:
            yield [digest(weights), digest(scales)]


def _weights(layer: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    for kind in layer.adapter_layer_names:
        held = getattr(layer, kind, None)
        if held is None or name not in held:
            continue
        if isinstance(held[name], Tensor):
            yield kind, held[name]
        else:
            for part, value in held[name].named_parameters():
                yield f"{kind}.{part}", value


def _tensor_digest(tensor: Tensor) -> str:
    version = None if tensor.is_inference() else tensor._version
    stamp = version, tensor.dtype, tuple(tensor.shape)
    known = _digests.get(tensor)
    if known is not None and known[0] == stamp:
        return str(known[1])
    values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    header = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    found = hashlib.sha256(header + values.tobytes()).hexdigest()
    _digests[tensor] = stamp, found
    return found
