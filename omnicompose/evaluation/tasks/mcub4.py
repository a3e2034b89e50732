"""mcub4: what do a picture, a sound, a clip and a point cloud have in common?"""

from omnicompose.evaluation.tasks.mcub import mcub_task

TASK = mcub_task("mcub4", "MCUB-4.json", "a picture, sound, clip and point cloud")
