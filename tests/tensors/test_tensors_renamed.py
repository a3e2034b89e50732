import pytest
import torch

from omnicompose.errors import SourceError
from omnicompose.tensors.memory import MemorySource
from omnicompose.tensors.renamed import NameRule, RenamedSource, rename
from omnicompose.tensors.source import read_tensor

RULES = (
    NameRule(pattern=r"language_model\.model\.", replacement="model.language_model."),
    NameRule(pattern=r"language_model\.lm_head\.", replacement="lm_head."),
    NameRule(pattern=r"(vision_tower)\.vision_model\.", replacement=r"model.\1."),
    NameRule(pattern=r".*rotary_emb\.inv_freq$", replacement=None),
)


def test_the_first_rule_that_matches_the_start_decides():
    assert rename("language_model.model.norm.weight", RULES) == "model.language_model.norm.weight"
    assert rename("vision_tower.vision_model.a", RULES) == "model.vision_tower.a"
    assert rename("x.rotary_emb.inv_freq", RULES) is None
    assert rename("other.language_model.model.a", RULES) == "other.language_model.model.a"


def test_tensors_are_read_under_their_new_names():
    tensors = {"language_model.model.a": torch.arange(6.0), "x.rotary_emb.inv_freq": torch.ones(1)}
    source = RenamedSource(MemorySource("m", tensors), RULES)
    assert list(source.infos()) == ["model.language_model.a"]
    assert source.infos()["model.language_model.a"].name == "model.language_model.a"
    assert read_tensor(source, "model.language_model.a", 2, 4).tolist() == [2.0, 3.0]
    assert source.label == "m"
    assert source.byte_range("model.language_model.a") is None
    assert source.factors("model.language_model.a") is None
    assert source.scratch_bytes("model.language_model.a", 5) == 0
    assert source.files() == ()


def test_two_tensors_never_share_a_name():
    tensors = {"language_model.model.a": torch.ones(1), "model.language_model.a": torch.ones(1)}
    with pytest.raises(SourceError, match=r"would both be called 'model\.language_model\.a'"):
        RenamedSource(MemorySource("m", tensors), RULES)
