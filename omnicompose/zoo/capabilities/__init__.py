"""The capability zoo: one small vision-language model and five fine-tunes of it, on drawn pictures.

Scenes (VQA and grounding), geometric figures, charts and words; who may see which picture is
decided by the picture itself (`world.split_of`), so training and evaluation cannot share one.
"""
