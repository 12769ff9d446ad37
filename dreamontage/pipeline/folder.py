"""A Wan pipeline that comes from a folder: loading, settings under old names, and its revision."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from diffusers import WanImageToVideoPipeline

from dreamontage.families.registry import check_class_name
from dreamontage.models.folder import current_names, folder_revision
from dreamontage.models.loading import experts_of, progress_bars_on_terminal
from dreamontage.pipeline.revision import CONFIG, Revision, derived


class FolderPipeline(WanImageToVideoPipeline):  # type: ignore[misc]
    """diffusers' image-to-video pipeline with our DiT in it, and a revision."""

    _revision: Revision

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a model folder: ours, or a Wan checkpoint in diffusers' layout, unchanged.

        ``kwargs`` are diffusers' own; a component given there takes the place of the folder's.

        Raises:
            ValueError: if the folder holds no ``model_index.json``, or one of a pipeline that is
                not supported.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir() and not folder.is_absolute() and len(folder.parts) == 2:
            folder = Path(cls.download(str(pretrained_model_name_or_path)))  # a hub's owner/name
        if (folder / "model_index.json").is_file():
            check_class_name(folder)
        kwargs = current_names(kwargs)
        with progress_bars_on_terminal():
            experts = experts_of(folder, kwargs)
            pipe: Self = super().from_pretrained(str(folder), **kwargs, **experts)
        # A component left out (None) leaves the others the folder's.
        if all(kwargs.get(name) is None for name in pipe.components):
            revision = folder_revision(folder)
            overrides = {name: kwargs[name] for name in (*CONFIG, "variant") if name in kwargs}
            pipe.revision = derived(revision, overrides) if overrides else revision
        return pipe

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """As diffusers'; settings that were renamed are read under their old names too."""
        loaded = super().load_config(*args, **kwargs)
        if isinstance(loaded, tuple):
            return current_names(loaded[0]), *loaded[1:]
        return current_names(loaded)

    def register_to_config(self, **kwargs: Any) -> None:
        """As diffusers'; settings that were renamed are taken under their old names too."""
        super().register_to_config(**current_names(kwargs))

    @property
    def revision(self) -> str:
        """What segments are stored under: the name of all that determines latents, as it is now.

        The same in every process for an untouched folder, and for one with another scheduler, with
        adapters, or with speed options. Components that come from no folder have one of their own.
        Set it to name the pipeline as it is at that moment; later changes are derived from there.
        """
        return self._revision.of(self)

    @revision.setter
    def revision(self, name: str) -> None:
        self._revision = Revision(name, self)

    def fuse_lora(self, *args: Any, **kwargs: Any) -> None:
        """As diffusers'. The experts' own weights are others from then on, whatever is unloaded."""
        before = self.revision
        super().fuse_lora(*args, **kwargs)
        self.revision = derived(before, "fuse_lora", repr(args), repr(sorted(kwargs.items())))

    def unfuse_lora(self, *args: Any, **kwargs: Any) -> None:
        """As diffusers'. Subtracting rounds, so the weights are not those before fusing."""
        before = self.revision
        super().unfuse_lora(*args, **kwargs)
        self.revision = derived(before, "unfuse_lora", repr(args), repr(sorted(kwargs.items())))
