"""A composite in a fresh virtual environment with torch and transformers: the same tokens as here.

    python benchmarks/fresh_export.py [--folder WHERE]

Composes the zoo (averaged, and decoupled), makes an environment of its own with torch and
`transformers[vision,audio,video]`, loads both folders there with trust_remote_code, asks about a
picture, a sound and a clip together and about a sound alone, in one batch and through
`pipeline("any-to-any")`, and compares tokens and words with those of omnicompose. Needs uv and the
package index or its cache. The last line is JSON; exits with 1 unless all are equal.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from omnicompose.composer import compose
from omnicompose.zoo.media import held_out_media

ROOT = Path(__file__).parents[1]
RECIPES = ("naive-standard", "damc-stressed")
PACKAGES = ("torch", "torchvision", "torchaudio")
ASK = """
import importlib.util, json, sys
folder, chats, trusted = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "yes"
if not trusted:
    import omnicompose
from transformers import AutoModelForMultimodalLM, AutoProcessor, pipeline
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=trusted)
model = AutoModelForMultimodalLM.from_pretrained(folder, trust_remote_code=trusted).eval()
inputs = processor.apply_chat_template(chats, add_generation_prompt=True, tokenize=True,
    return_dict=True, return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)
pipe = pipeline("any-to-any", model=folder, trust_remote_code=trusted)
said = pipe(text=chats, generate_kwargs={"max_new_tokens": 12, "do_sample": False},
            return_full_text=False)
print(json.dumps({
    "omnicompose": importlib.util.find_spec("omnicompose") is not None,
    "tokens": tokens.tolist(),
    "texts": processor.batch_decode(tokens[:, inputs["input_ids"].shape[1]:],
                                    skip_special_tokens=True),
    "piped": [one[0]["generated_text"] for one in said],
}))
"""


def chats(folder: Path) -> list[object]:
    """One prompt with all three senses, and one with a sound alone."""
    media = held_out_media().media
    path = {
        name: str(next(one for one in media if one.item.modality == name).write(folder))
        for name in ("image", "audio", "video")
    }
    asked = ((("image", "audio", "video"), "What do these have in common?"), (("audio",), "Which?"))
    return [
        [
            {
                "role": "user",
                "content": [
                    *({"type": name, "path": path[name]} for name in names),
                    {"type": "text", "text": question},
                ],
            }
        ]
        for names, question in asked
    ]


def fresh_python(folder: Path) -> Path:
    """An environment with torch, transformers and what transformers reads media with."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", folder], check=True)
    pinned = [f"{name}=={version(name).split('+')[0]}" for name in PACKAGES]
    wanted = [*pinned, f"transformers[vision,audio,video]=={version('transformers')}"]
    python = folder / "bin/python"
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, *wanted], check=True)
    return python


def ask(python: Path | str, omni: Path, asked: list[object], cwd: Path) -> dict[str, object]:
    """What the composite says under an interpreter."""
    trusted = "no" if str(python) == sys.executable else "yes"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "hf")}
    if trusted == "yes":
        environment.pop("PYTHONPATH", None)  # it may lead to omnicompose
    command = [str(python), "-c", ASK, str(omni), json.dumps(asked), trusted]
    where = ROOT if trusted == "no" else cwd
    done = subprocess.run(
        command, cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Compare both composites and print what they said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None)
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="fresh-export-"))
    python, asked = fresh_python(folder / "fresh"), chats(folder / "media")
    equal = {}
    for name in RECIPES:
        compose(ROOT / f"configs/{name}.yaml", folder / name)
        there, here = (ask(one, folder / name, asked, folder) for one in (python, sys.executable))
        equal[name] = all(there[key] == here[key] for key in ("tokens", "piped"))
        print(f"{name}: here {here['texts']}, there {there['texts']}, piped {there['piped']}")
        print(f"  omnicompose installed: here {here['omnicompose']}, there {there['omnicompose']}")
    print(json.dumps({"equal": equal}))
    sys.exit(int(not all(equal.values())))


if __name__ == "__main__":
    main()
