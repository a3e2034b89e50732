"""Spoken numbers of the zoo's world, by espeak-ng through the `espeakng_loader` package (ctypes).

espeak-ng carries state from one word to the next, so the same word sounds minutely different each
time: a whole list is spoken in a fresh process, which makes it the same list every time.
"""

import ctypes
import itertools
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from omnicompose.zoo.draw import Split
from omnicompose.zoo.world import NUMBERS, Item, make_item

Waveform = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16]

SAMPLE_RATE_HZ = 8000
NUM_SAMPLES = SAMPLE_RATE_HZ
"""A sound lasts at most one second."""
SAMPLE_STEP = 32
"""Samples are multiples of this, so that noise costs few bytes in a file."""

VOICES: dict[str, tuple[str, ...]] = {
    "train": (
        "gmw/en-US",
        "gmw/en",
        "gmw/en-GB-scotland",
        "gmw/en-US-nyc",
        "gmw/en-US+m1",
        "gmw/en-US+m2",
        "gmw/en+m3",
        "gmw/en-GB-scotland+m6",
        "gmw/en-US+m7",
        "gmw/en+m8",
        "gmw/en-US+Alex",
        "gmw/en-US+adam",
        "gmw/en-029+boris",
    ),
    "held-out": (
        "gmw/en-GB-x-rp",
        "gmw/en-US+m5",
        "gmw/en+edward",
        "gmw/en-GB-x-gbclan+max",
    ),
}
"""Accent + timbre. No voice's low is as high as another's high: level is absolute."""
PITCHES: dict[str, tuple[int, ...]] = {"low": (5, 13, 20), "high": (84, 90, 96)}
"""espeak-ng's pitch, 0 to 99."""
SPEEDS: dict[str, tuple[int, ...]] = {"slow": (100, 108, 116), "fast": (215, 232, 250)}
"""espeak-ng's speed in words per minute."""

_SYNCHRONOUS, _CHARACTERS, _UTF8 = 2, 1, 1
_SPEED, _PITCH = 1, 3
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
_SILENCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One number, spoken.

    Attributes:
        item: of modality audio.
        voice: who speaks.
        waveform: `[n]` at SAMPLE_RATE_HZ, without silence before or after.
    """

    item: Item
    voice: str
    waveform: Waveform


@cache
def read_utterances(split: Split) -> tuple[Utterance, ...]:
    """Every number by every voice of `split`, at every pitch and speed; some seconds of work."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_speak_all, VOICES[split]).result()


def perform(rng: np.random.Generator, utterance: Utterance) -> Samples:
    """The utterance as a recording: loudness, a late start and hiss differ each time.

    Returns:
        `[n]` at SAMPLE_RATE_HZ, at most NUM_SAMPLES of them.
    """
    spoken = utterance.waveform * rng.uniform(0.4, 1.0)
    num_before, num_after = rng.integers(0, 500, 2)
    recording = np.pad(spoken, (int(num_before), int(num_after)))[:NUM_SAMPLES]
    hiss = rng.normal(0, np.exp(rng.uniform(np.log(0.0003), np.log(0.003))), len(recording))
    stepped = np.round((recording + hiss) * 32768 / SAMPLE_STEP) * SAMPLE_STEP
    return np.clip(stepped, -32768, 32736).astype(np.int16)


def _speak_all(
    voices: tuple[str, ...], numbers: Sequence[int] = range(len(NUMBERS))
) -> tuple[Utterance, ...]:
    speak = _open_espeak()
    return tuple(
        Utterance(
            item=make_item("audio", number=number, level=level, pace=pace),
            voice=voice,
            waveform=_trim(speak(NUMBERS[number], voice, pitch, speed)),
        )
        for voice, number in itertools.product(voices, numbers)
        for level, pitches in enumerate(PITCHES.values())
        for pace, speeds in enumerate(SPEEDS.values())
        for pitch, speed in itertools.product(pitches, speeds)
    )


def _open_espeak() -> Callable[[str, str, int, int], Waveform]:
    """A function from (word, voice, pitch, speed) to a waveform at SAMPLE_RATE_HZ."""
    import espeakng_loader
    import soxr

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data_path = espeakng_loader.get_data_path().encode()
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, data_path, 0)
    chunks: list[Waveform] = []

    def receive(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: object) -> int:
        if samples and count > 0:
            spoken = np.ctypeslib.as_array(samples, (count,))
            chunks.append(spoken.astype(np.float32) / np.float32(32768))
        return 0

    # The library keeps a bare pointer: `speak` must keep the callback itself alive.
    callback = _CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)

    def speak(word: str, voice: str, pitch: int, speed: int) -> Waveform:
        assert callback
        chunks.clear()
        if library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        library.espeak_SetParameter(_SPEED, speed, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        text = word.encode()
        library.espeak_Synth(text, len(text) + 1, 0, _CHARACTERS, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        waveform: Waveform = soxr.resample(np.concatenate(chunks), rate_hz, SAMPLE_RATE_HZ)
        return waveform

    return speak


def _trim(waveform: Waveform) -> Waveform:
    loud = np.flatnonzero(np.abs(waveform) > _SILENCE)
    return waveform[loud[0] : loud[-1] + 1]
