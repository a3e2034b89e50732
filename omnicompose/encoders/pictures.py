"""The encoders of pictures, which can also look at clips frame by frame."""

from omnicompose.encoders.clip_vision import ClipVision
from omnicompose.encoders.dinov2 import Dinov2
from omnicompose.encoders.encoder import Encoder
from omnicompose.encoders.intern_vit import InternVit
from omnicompose.encoders.open_clip_vision import OpenClipVision
from omnicompose.encoders.pixtral import Pixtral
from omnicompose.encoders.siglip2_vision import Siglip2Vision
from omnicompose.encoders.siglip_vision import SiglipVision
from omnicompose.encoders.timm_vision import TimmVision

PICTURE_ENCODERS: dict[str, type[Encoder]] = {
    "clip_vision": ClipVision,
    "dinov2": Dinov2,
    "intern_vit": InternVit,
    "open_clip_vision": OpenClipVision,
    "pixtral": Pixtral,
    "siglip2_vision": Siglip2Vision,
    "siglip_vision": SiglipVision,
    "timm_vision": TimmVision,
}
"""By the name that configurations use."""
