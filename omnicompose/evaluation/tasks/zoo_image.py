"""zoo/image: which of four statements is true of one picture?"""

from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.zoo import CLUSTER_FIELD, LICENCE, LOCATION, ZooTask
from omnicompose.zoo.questions import true_text

TASK = ZooTask(
    spec=TaskSpec(
        name="zoo/image",
        version=1,
        summary="Which of four statements is true of one picture? Retention of the image expert.",
        location=LOCATION,
        licence=LICENCE,
        cluster_field=CLUSTER_FIELD,
        # The picture stands first, on its own line; the reply follows the turn without a space.
        prompt="MEDIUM" + true_text("image", ("...",) * 4),
        chance=0.25,
    ),
    kind="true",
    groups=(("image",),),
)
