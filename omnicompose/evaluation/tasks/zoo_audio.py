"""zoo/audio: which of four statements is true of one sound?"""

from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.zoo import CLUSTER_FIELD, LICENCE, LOCATION, ZooTask

TASK = ZooTask(
    spec=TaskSpec(
        name="zoo/audio",
        version=1,
        summary="Which of four statements is true of one sound? Retention of the audio expert.",
        location=LOCATION,
        licence=LICENCE,
        cluster_field=CLUSTER_FIELD,
        # The sound stands first, on its own line; the letter follows the turn without a space.
        prompt="MEDIUMWhich is true of the sound?\\nA. ...\\nB. ...\\nC. ...\\nD. ...",
        chance=0.25,
    ),
    kind="true",
    groups=(("audio",),),
)
