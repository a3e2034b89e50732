"""Sounds as Kaldi filterbanks, as BEATs and its composites hear them.

torchaudio's Kaldi port computes the filterbank; every step is a setting, so that other encoders
with the same front end (their means, their length) are served as well.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio.compliance.kaldi import fbank
from transformers import BatchFeature, FeatureExtractionMixin

from omnicompose.errors import MediaError

INT16_RANGE = 2**15
"""Kaldi counts samples as 16-bit whole numbers, readers of files as fractions of one."""


class KaldiFbankFeatureExtractor(FeatureExtractionMixin):  # type: ignore[misc]  # transformers is untyped
    """Mono samples `[S]` to one normalised filterbank `[T, mel bins]`, T always `num_frames`.

    Attributes:
        resampler: how files of another rate are read: `sinc` as in torchaudio, or `soxr`.
    """

    model_input_names = ("input_features",)

    def __init__(
        self,
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        frame_length_ms: float = 25.0,
        frame_shift_ms: float = 10.0,
        num_frames: int = 1024,
        mean: float = 15.41663,
        deviation: float = 6.55582,
        resampler: str = "sinc",
        **kwargs: object,
    ) -> None:
        """Set every step; the defaults are those of BEATs and ModelCompose.

        Args:
            sampling_rate: of the samples, in Hz.
            num_mel_bins: bands of the filterbank.
            frame_length_ms: length of one window.
            frame_shift_ms: from one window to the next.
            num_frames: longer sounds are cut off, shorter ones filled up with zeros.
            mean: what is subtracted from the filterbank.
            deviation: half of what it is divided by.
            resampler: see the class.
            **kwargs: what transformers saves beside.
        """
        super().__init__(**kwargs)
        self.sampling_rate = sampling_rate
        self.num_mel_bins = num_mel_bins
        self.frame_length_ms = frame_length_ms
        self.frame_shift_ms = frame_shift_ms
        self.num_frames = num_frames
        self.mean = mean
        self.deviation = deviation
        self.resampler = resampler

    def __call__(
        self,
        raw_speech: NDArray[np.float32],
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs: object,
    ) -> BatchFeature:
        """`input_features` `[1, T, mel bins]` fp32 of one sound.

        Args:
            raw_speech: mono samples `[S]` between -1 and 1.
            sampling_rate: theirs, in Hz; None: this extractor's.
            return_tensors: the framework, as everywhere in transformers.
            **kwargs: what transformers hands to every extractor; unused.

        Raises:
            MediaError: another rate than this extractor's, or less than one window of sound.
        """
        samples = torch.as_tensor(np.asarray(raw_speech, dtype=np.float32))
        self._check(samples, sampling_rate)
        frames = fbank(
            samples[None] * INT16_RANGE,
            num_mel_bins=self.num_mel_bins,
            sample_frequency=self.sampling_rate,
            frame_length=self.frame_length_ms,
            frame_shift=self.frame_shift_ms,
        )
        normed = (frames[: self.num_frames] - self.mean) / (2 * self.deviation)
        padded = torch.nn.functional.pad(normed, (0, 0, 0, self.num_frames - len(normed)))
        return BatchFeature({"input_features": padded[None].numpy()}, tensor_type=return_tensors)

    def _check(self, samples: torch.Tensor, sampling_rate: int | None) -> None:
        if sampling_rate not in (None, self.sampling_rate):
            raise MediaError(
                f"sound: found a rate of {sampling_rate} Hz, expected {self.sampling_rate} Hz. "
                "Resample it, or give the file."
            )
        least = int(self.sampling_rate * self.frame_length_ms / 1000)
        if samples.ndim != 1 or len(samples) < least:
            raise MediaError(
                f"sound: found samples of shape {list(samples.shape)}, expected one channel of at "
                f"least {least}, one window of {self.frame_length_ms:g} ms. Give a longer sound."
            )
