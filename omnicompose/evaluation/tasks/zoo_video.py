"""zoo/video: which of four statements is true of one clip?"""

from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.zoo import CLUSTER_FIELD, LICENCE, LOCATION, ZooTask
from omnicompose.zoo.questions import true_text

TASK = ZooTask(
    spec=TaskSpec(
        name="zoo/video",
        version=1,
        summary="Which of four statements is true of one clip? Retention of the video expert.",
        location=LOCATION,
        licence=LICENCE,
        cluster_field=CLUSTER_FIELD,
        # The clip stands first, on its own line; the reply follows the turn without a space.
        prompt="MEDIUM" + true_text("video", ("...",) * 4),
        chance=0.25,
    ),
    kind="true",
    groups=(("video",),),
)
