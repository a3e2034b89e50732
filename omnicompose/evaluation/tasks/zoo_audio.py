"""zoo/audio: which of four statements is true of one sound?"""

from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.zoo import CLUSTER_FIELD, LICENCE, LOCATION, ZooTask
from omnicompose.zoo.questions import true_text

TASK = ZooTask(
    spec=TaskSpec(
        name="zoo/audio",
        version=1,
        summary="Which of four statements is true of one sound? Retention of the audio expert.",
        location=LOCATION,
        licence=LICENCE,
        cluster_field=CLUSTER_FIELD,
        # The sound stands first, on its own line; the reply follows the turn without a space.
        prompt="MEDIUM" + true_text("audio", ("...",) * 4),
        chance=0.25,
    ),
    kind="true",
    groups=(("audio",),),
)
