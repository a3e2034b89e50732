"""Benchmarks' folders in their authors' exact formats, made up: two or three questions each."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

from evaluation_media import put, put_clip, put_points

Fill = Callable[[Path], None]


def dump(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def dump_lines(path: Path, values: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values), encoding="utf-8")


def mcub_record(name: str, tags: list[str], inputs: dict[str, list[str]]) -> dict[str, object]:
    question = (
        "".join(f"<{tag}>\n" for tag in tags)
        + "Which of these attributes is common among the inputs?\n"
        "A. Presence of a dog\nB. Street scenes\nC. Human-made structures\nD. A happy atmosphere"
    )
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": None}]
    return {"id": name, "conversations": turns, "modal_inputs": inputs}


def fill_mcub(file_name: str, modalities: tuple[str, ...]) -> Fill:
    suffixes = {"image": ".png", "audio": ".flac", "video": ".mp4", "point": ".npy"}

    def fill(folder: Path) -> None:
        records = []
        for i in range(2):
            inputs = {}
            for modality in modalities:
                name = f"{modality}{i}{suffixes[modality]}"
                key = "vision" if modality == "image" else modality
                inputs[key] = [name]
                if modality == "point":
                    put_points(folder / name)
                else:
                    put(folder / name, modality, i)
            records.append(mcub_record(f"{file_name}-{i}", list(modalities), inputs))
        dump(folder / file_name, records)
        key = folder / "MCUB-answer.json"
        known = json.loads(key.read_text()) if key.is_file() else []
        for record, letter in zip(records, "AC", strict=True):
            turns = record["conversations"]
            assert isinstance(turns, list)
            answered = [turns[0], {"from": "gpt", "value": letter}]
            known.append({**record, "conversations": answered})
        dump(key, known)

    return fill


def fill_avqa(folder: Path) -> None:
    records = [
        {
            "id": 183 + i,
            "video_name": f"-HG3Omg_89c_00003{i}",
            "video_id": 341,
            "question_text": "What happened in the video?",
            "multi_choice": ["motorboat", "Yacht consignment", "Sailboat set sail", "Consignment"],
            "answer": i + 1,
            "question_relation": "View",
            "question_type": "Happening",
        }
        for i in range(2)
    ]
    dump(folder / "val_qa.json", records)
    for i in range(2):
        put_clip(folder / "videos" / f"-HG3Omg_89c_00003{i}.mp4", i)


def fill_music_avqa(folder: Path) -> None:
    shared = {"question_deleted": 0, "video_id": "00000272"}
    records = [
        shared
        | {
            "question_id": 44,
            "type": '["Audio-Visual", "Counting"]',
            "question_content": "How many <Object> are sounding in the video?",
            "templ_values": '["ukulele"]',
            "anser": "two",
        },
        shared
        | {
            "question_id": 45,
            "type": '["Audio", "Comparative"]',
            "question_content": "Is the clarinet louder?",
            "templ_values": "[]",
            "anser": "yes",
        },
    ]
    dump(folder / "avqa-test.json", records)
    put_clip(folder / "videos/00000272.mp4")


def fill_modelnet40(folder: Path) -> None:
    records = [
        {
            "id": i,
            "label": label,
            "label_name": name,
            "modal_inputs": {"point": [f"points/{i}.npy"]},
        }
        for i, (label, name) in enumerate(((0, "airplane"), (15, "flower pot")))
    ]
    dump(folder / "modelnet40-test.json", records)
    for i in range(2):
        put_points(folder / f"points/{i}.npy")


def fill_objaverse(folder: Path) -> None:
    captions = ("A wooden chair.", "A red car with wheels.", "A green tree.", "A small house.")
    records = [
        {
            "object_id": f"0a{i}",
            "conversation_type": "simple_description",
            "conversations": [
                {"from": "human", "value": "<point>\nCaption this 3D model in detail."},
                {"from": "gpt", "value": caption},
            ],
        }
        for i, caption in enumerate(captions)
    ]
    dump(folder / "PointLLM_brief_description_val_200_GT.json", records)
    for i in range(4):
        put_points(folder / f"points/0a{i}_8192.npy")


def fill_omnibench(folder: Path) -> None:
    options = ["He reads.", "She reads.", "He rings a bell.", "They sleep."]
    records = [
        {
            "task type": "Action and Activity",
            "audio type": "speech",
            "question": "What are the men doing?",
            "audio content": "Two people talking.",
            "image content": "Two people on a couch.",
            "audio_path": f"{i}.flac",
            "image_path": f"{i}.png",
            "index": i,
            "answer": options[i],
            "options": options,
        }
        for i in range(2)
    ]
    dump_lines(folder / "batch.jsonl", records)  # type: ignore[arg-type]
    for i in range(2):
        put(folder / f"mm_data/audio/{i}.flac", "audio", i)
        put(folder / f"mm_data/image/{i}.png", "image", i)


def fill_daily_omni(folder: Path) -> None:
    record = {
        "Question": "Which sound occurs with the practice?",
        "Choice": ["A. Gunfire", "B. A countdown", "C. The coach's whistle", "D. Speech"],
        "Answer": "A",
        "video_id": "G_VTkkb34gw",
        "Type": "AV Event Alignment",
        "content_parent_category": "Sports",
        "content_fine_category": "Career Highlights",
        "video_category": "Sports",
        "video_duration": "30s",
    }
    dump(folder / "qa.json", [record, record | {"Answer": "D", "Type": "Inference"}])
    media = folder / "Videos/G_VTkkb34gw"
    put(media / "G_VTkkb34gw_video.mp4", "video")
    put(media / "G_VTkkb34gw_audio.wav", "audio")


def fill_avhbench(folder: Path) -> None:
    tasks = (
        ("Video-driven Audio Hallucination", "Is the couch making sound in the audio?", "No"),
        ("Audio-driven Video Hallucination", "Is the sleeping man visible in the video?", "Yes"),
        ("AV Matching", "Are the contexts of audio and visual content matching?", "Yes"),
        ("AV Captioning", "Describe what you see and hear in a single sentence.", "A man sleeps."),
    )
    records = [
        {"video_id": "00191", "task": task, "text": text, "label": label}
        for task, text, label in tasks
    ]
    dump(folder / "json/00191.json", records)
    put_clip(folder / "video/00191.mp4")


def fill_worldsense(folder: Path) -> None:
    task = {
        "task_domain": "Recognition",
        "task_type": "Audio Counting",
        "question": "How many bells ring?",
        "answer": "B",
        "candidates": ["A. One.", "B. Two.", "C. Three.", "D. Four."],
    }
    clip = {
        "video_id": "abc",
        "video_duration": "60s",
        "duration": "0-1min",
        "domain": "Daily Life",
        "sub_category": "Home",
        "audio_class": ["Event"],
        "video_caption": "Bells.",
        "task0": task,
        "task1": task | {"candidates": task["candidates"][:3], "answer": "C"},  # type: ignore[index]
    }
    dump(folder / "worldsense_qa.json", {"abc": clip})
    put_clip(folder / "videos/abc.mp4")


def fill_pope(folder: Path) -> None:
    for kind in ("random", "popular"):
        records = [
            {
                "question_id": i + 1,
                "image": "COCO_val2014_000000310196.png",
                "text": f"Is there a {thing} in the image?",
                "label": label,
            }
            for i, (thing, label) in enumerate((("snowboard", "yes"), ("car", "no")))
        ]
        dump_lines(folder / f"coco_pope_{kind}.json", records)  # type: ignore[arg-type]
    put(folder / "val2014/COCO_val2014_000000310196.png", "image")


def fill_mmau(folder: Path) -> None:
    record = {
        "id": "3fe64f3d",
        "audio_id": "./test-mini-audios/3fe64f3d.wav",
        "question": "Which bird is calling?",
        "choices": ["(A) Owl", "(B) Crow", "(C) Dove", "(D) Robin"],
        "answer": "(B) Crow",
        "dataset": "x",
        "task": "sound",
        "split": "test-mini",
        "category": "Reasoning",
        "sub-category": "Bird",
        "difficulty": "hard",
    }
    dump(folder / "mmau-test-mini.json", [record])
    put(folder / "test-mini-audios/3fe64f3d.wav", "audio")


def fill_nextqa(folder: Path) -> None:
    row = {"video": "4010069381", "frame_count": 369, "width": 640, "height": 480}
    row |= {"question": "how do the two man play", "answer": 2, "qid": 6, "type": "CH"}
    row |= {f"a{i}": text for i, text in enumerate(("roll", "tap", "strum", "hit", "pat"))}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([row.keys(), row.values()])
    put(folder / "videos/4010069381.mp4", "video")


FOLDERS: dict[str, Fill] = {
    "mcub3/image-audio-video": fill_mcub(
        "MCUB-3-image-audio-video.json", ("image", "audio", "video")
    ),
    "mcub3/audio-video-pointcloud": fill_mcub(
        "MCUB-3-audio-video-pointcloud.json", ("audio", "video", "point")
    ),
    "mcub3/image-audio-pointcloud": fill_mcub(
        "MCUB-3-image-audio-pointcloud.json", ("image", "audio", "point")
    ),
    "mcub3/image-video-pointcloud": fill_mcub(
        "MCUB-3-image-video-pointcloud.json", ("image", "video", "point")
    ),
    "mcub4": fill_mcub("MCUB-4.json", ("image", "audio", "video", "point")),
    "avqa": fill_avqa,
    "music-avqa": fill_music_avqa,
    "modelnet40": fill_modelnet40,
    "objaverse/caption": fill_objaverse,
    "objaverse/choose": fill_objaverse,
    "omnibench": fill_omnibench,
    "daily-omni": fill_daily_omni,
    "avhbench": fill_avhbench,
    "worldsense": fill_worldsense,
    "pope": fill_pope,
    "mmau": fill_mmau,
    "nextqa": fill_nextqa,
}


def write_folders(data_dir: Path) -> Path:
    """All of them below one folder."""
    for name, fill in FOLDERS.items():
        fill(data_dir / name.split("/")[0])
    return data_dir
