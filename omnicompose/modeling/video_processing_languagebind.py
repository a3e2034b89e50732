"""Clips as LanguageBind sees them: equally spaced frames, normalised, then made small and cropped.

Unlike transformers' video processors it resizes floating-point frames without anti-aliasing. The
published code also mirrors every second clip at random, when it is used as when it is trained; here
a clip is shown as it is.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F
from transformers import BatchFeature
from transformers.image_utils import (
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    PILImageResampling,
    SizeDict,
)
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata


class LanguageBindVideoProcessor(BaseVideoProcessor):  # type: ignore[misc]  # transformers is untyped
    """Frames `[F, H, W, 3]` of a clip to `[T, 3, S, S]`."""

    resample = PILImageResampling.BILINEAR
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    # transformers keeps these two as plain dicts on the class.
    size = {"shortest_edge": 224}  # noqa: RUF012
    crop_size = {"height": 224, "width": 224}  # noqa: RUF012
    default_to_square = False
    do_resize = True
    do_center_crop = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_sample_frames = True
    num_frames = 8

    def sample_frames(
        self, metadata: VideoMetadata, num_frames: int | None = None, **_: object
    ) -> Sequence[int]:
        """Indices of equally spaced frames, the first and the last among them.

        Args:
            metadata: of the clip; only its number of frames counts.
            num_frames: how many; None: this processor's.
        """
        number = self.num_frames if num_frames is None else num_frames
        return [int(place) for place in np.linspace(0, metadata.total_num_frames - 1, number)]

    def _preprocess(
        self,
        videos: list[torch.Tensor],
        size: SizeDict,
        crop_size: SizeDict,
        return_tensors: str | None = None,
        **_: object,
    ) -> BatchFeature:
        clips = [self._clip(video, size.shortest_edge, crop_size) for video in videos]
        return BatchFeature({"pixel_values_videos": clips}, tensor_type=return_tensors)

    def _clip(self, frames: torch.Tensor, side: int, crop: SizeDict) -> torch.Tensor:
        """Frames `[T, 3, H, W]` uint8 as normalised squares."""
        mean, deviation = (
            torch.tensor(x)[:, None, None] for x in (self.image_mean, self.image_std)
        )
        pictures = (frames.float() / 255 - mean) / deviation
        height, width = frames.shape[-2:]
        small = (side, side * width // height) if height < width else (side * height // width, side)
        pictures = F.interpolate(pictures, size=small, mode="bilinear", align_corners=False)
        top, left = (
            (now - kept) // 2 for now, kept in zip(small, (crop.height, crop.width), strict=True)
        )
        return pictures[..., top : top + crop.height, left : left + crop.width]
