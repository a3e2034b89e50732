"""Make questions about what media of different modalities have in common, and say what they leak.

leakage = build_mcub(Path("captions.csv"), Path("data/mcub-built"), BuildOptions())
"""

from omnicompose.evaluation.building.build import BuildOptions, build_mcub
from omnicompose.evaluation.building.leakage import Leakage

__all__ = ["BuildOptions", "Leakage", "build_mcub"]
