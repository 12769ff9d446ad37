"""The second way in which Wan 2.1's image-to-video checkpoints see conditions: through CLIP."""

from __future__ import annotations

from collections.abc import Iterable

from PIL import Image

from dreamontage.sampling.conditioning.conditions import Clip, Keyframe, pictures_by_frame
from dreamontage.sampling.conditioning.pictures import Picture, as_image
from dreamontage.timeline import frames_of


class ClipVisionInputs:
    """The pictures of a window that are inputs of Wan 2.1's CLIP vision encoder.

    Image-to-video weights know the first frame, first-last-frame weights the first and the last.
    Where a window has none there, the nearest that it has **[ours]**: it opens with its tail's
    first frame, else its earliest given picture, else mid-grey, and ends with its latest given
    picture, else with what it opens with. A loop's closing window ends with the loop's first frame.
    """

    def __init__(self, conditions: Iterable[Keyframe | Clip]) -> None:
        self.pictures = {
            frame: as_image(picture) for frame, picture in pictures_by_frame(conditions).items()
        }

    def with_loop_head(self, frame: int, picture: Picture) -> ClipVisionInputs:
        """The same pictures, and the first frame of a loop at ``frame``, where the loop ends."""
        inputs = ClipVisionInputs([])
        inputs.pictures = self.pictures | {frame: as_image(picture)}
        return inputs

    def window(
        self, start: int, stop: int, *, opening: Image.Image | None, both_ends: bool
    ) -> list[Image.Image]:
        """One picture, or two for ``both_ends``, of what is given on the latents [start, stop).

        Args:
            opening: the first frame of the tail, whose latents come before ``start``.
        """
        span = range(frames_of(start).start, frames_of(stop - 1).stop)
        given = [picture for frame, picture in sorted(self.pictures.items()) if frame in span]
        grey = Image.new("RGB", (16, 16), (128, 128, 128))
        first = opening or (given[0] if given else grey)
        return [first, given[-1] if given else first] if both_ends else [first]
