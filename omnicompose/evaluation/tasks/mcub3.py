"""mcub3: what do three inputs of different modalities have in common? Four triples."""

from omnicompose.evaluation.tasks.mcub import mcub_task

TASKS = tuple(
    mcub_task(f"mcub3/{name}", f"MCUB-3-{name}.json", f"a {what}")
    for name, what in (
        ("image-audio-video", "picture, sound and clip"),
        ("audio-video-pointcloud", "sound, clip and point cloud"),
        ("image-audio-pointcloud", "picture, sound and point cloud"),
        ("image-video-pointcloud", "picture, clip and point cloud"),
    )
)
