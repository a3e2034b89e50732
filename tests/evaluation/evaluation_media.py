"""Media on disk under the names that benchmarks give them: the zoo's, and clips with a sound."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from omnicompose.zoo.media import FRAMES_PER_S, SAMPLE_RATE_HZ, decode, held_out_media


def put(path: Path, modality: str, index: int = 0) -> None:
    """A zoo medium under the name that a benchmark gives its media."""
    library = held_out_media()
    path.parent.mkdir(parents=True, exist_ok=True)
    item = library.items(modality)[index]
    path.write_bytes(library.by_item[item][0].data)


def put_clip(path: Path, index: int = 0) -> None:
    """A clip with a sound track, as benchmarks of clips ship them."""
    library = held_out_media()
    frames = decode("video", library.by_item[library.items("video")[index]][0].data)
    sound = decode("audio", library.by_item[library.items("audio")[index]][0].data)
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        picture = container.add_stream("libx264", rate=Fraction(FRAMES_PER_S))
        picture.height, picture.width = frames.shape[1:3]
        picture.pix_fmt = "yuv420p"
        track = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode(None))
        heard = av.AudioFrame.from_ndarray(
            sound[None].astype(np.int16), format="s16", layout="mono"
        )
        heard.sample_rate = SAMPLE_RATE_HZ
        for part in av.AudioResampler("fltp", "mono", SAMPLE_RATE_HZ).resample(heard):
            container.mux(track.encode(part))
        container.mux(track.encode(None))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())


def put_points(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(0).random((8192, 6), dtype=np.float32))
