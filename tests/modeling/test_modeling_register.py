"""`import omnicompose` teaches the Auto classes composites, in any order, and loads nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each script loads a saved composite given only a folder, and fails where nothing was registered.
ORDERS = {
    "ours first": """
import omnicompose
assert not {"torch", "transformers"} & set(sys.modules)
from transformers import AutoProcessor, AutoModelForCausalLM
processor = AutoProcessor.from_pretrained(folder)
assert type(processor).__name__ == "OmniComposeProcessor"
model = AutoModelForCausalLM.from_pretrained(folder)
""",
    "transformers first": """
from transformers import AutoConfig, AutoModelForMultimodalLM, AutoProcessor
from transformers import LlamaForCausalLM
import omnicompose
assert "omnicompose.modeling" not in sys.modules
model = AutoModelForMultimodalLM.from_pretrained(folder)
""",
}


@pytest.fixture(scope="module")
def saved(model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("registered")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("order", ORDERS)
def test_composites_load_after_import_omnicompose(saved, order):
    script = f"import sys\nfolder = {str(saved)!r}\n{ORDERS[order]}"
    script += "assert type(model).__name__ == 'OmniComposeForConditionalGeneration'\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
