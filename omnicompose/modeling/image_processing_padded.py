"""Pictures as LLaVA 1.5 and ModelCompose see them: padded to a square, made small by Pillow.

transformers has the steps, but a saved `LlavaImageProcessorPil` is loaded as its torchvision twin,
whose interpolation differs by up to 0.015; under this name it stays what it was.
"""

from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil


class PaddedImageProcessor(LlavaImageProcessorPil):  # type: ignore[misc]  # transformers is untyped
    """A picture, padded with the mean colour where it is no square, to `[3, S, S]`."""

    do_pad = True
